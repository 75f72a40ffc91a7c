"""Pipeline transforms of PDSL: loading and projecting proposals, and colour augmentation."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS

from projects.common.errors import InputError
from projects.common.files.images import image_problem

from ..geometry import project_boxes
from ..proposals.store import ProposalStore, in_view

__all__ = ['LoadStoredProposals', 'ProjectProposals', 'RandomExposureSaturation']


@TRANSFORMS.register_module()
class LoadStoredProposals(BaseTransform):
    """Load an image's proposals from a :class:`~projects.pdsl.proposals.ProposalStore`.

    The store says whether it lists images by ``img_id`` or by the end of ``img_path``, with or
    without the suffix of the file; see :meth:`~projects.pdsl.proposals.ProposalStore.find`. An
    image of another size or content than the one that the proposals were made for is refused, if
    the store knows them.

    Required keys: ``img_path``; ``img_id`` if proposals are named after it. Optional key:
    ``ori_shape``, which is compared with the size in the store.
    Added keys: ``ori_proposals`` (n, 4) float32, XYXY in pixels of the original image, and
    ``ori_proposals_scores`` (n,) float32.

    Args:
        folder: Folder of the store.
        max_proposals: Load at most this many of the best proposals; None loads all.
        missing: What to do if the store lacks an image: 'error' raises an error, 'empty' loads no
            proposals.
        check_content: Compare the content of each image file with the one that the proposals were
            made for. False accepts the same image in another encoding.

    Raises:
        ValueError: The store lacks the image, or has the proposals of another one.
    """

    def __init__(
        self,
        folder: str,
        max_proposals: int | None = None,
        missing: str = 'error',
        check_content: bool = True,
    ) -> None:
        if missing not in ('error', 'empty'):
            raise InputError(
                f"LoadStoredProposals: missing is 'error' or 'empty', found {missing!r}"
            )
        self.folder = folder
        self.max_proposals = max_proposals
        self.missing = missing
        self.check_content = check_content
        self._store: ProposalStore | None = None

    @property
    def store(self) -> ProposalStore:
        """Return the store, which is opened when it is needed: a config builds without its data."""
        if self._store is None:
            self._store = ProposalStore(self.folder)
        return self._store

    def find(self, img_path: str, img_id: object = None) -> str | None:
        """Return the name of an image in the store, or None if it is missing.

        Raises:
            ValueError: The store lacks the image, and ``missing`` is 'error'.
        """
        name = self.store.find(img_path, img_id)
        if name is None and self.missing == 'error':
            has = f'the store has {self.store.keys or "names"} such as {self.store.names[:1]}'
            raise InputError(
                f'{self.folder}: no proposals of {img_path} (id {img_id}; {has}); make them with '
                "tools/misc/generate_proposals.py, or set missing='empty'"
            )
        return name

    def check(self, img_path: str, img_id: object = None, skip_damaged: bool = False) -> None:
        """Check that the store has an image.

        Args:
            img_path: Path of the image.
            img_id: Its id, if the store lists ids.
            skip_damaged: Accept that it lacks an image that cannot be read, of which it can have no
                proposals.

        Raises:
            ValueError: See :meth:`find`.
        """
        try:
            self.find(img_path, img_id)
        except InputError:
            if not skip_damaged or image_problem(img_path) is None:
                raise

    def transform(self, results: dict) -> dict:
        """Add ``ori_proposals`` (n, 4), XYXY in pixels of the file, and their scores (n,).

        Raises:
            ValueError: The store lacks the image, and ``missing`` is 'error'; or the entry was made
                for another image.
        """
        path = results['img_path']
        name = self.find(path, results.get('img_id'))
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        if name is not None:
            self.store.check(name, path, results.get('ori_shape'), self.check_content)
            boxes, scores = self.store.read(name)
        results['ori_proposals'] = boxes[: self.max_proposals]
        results['ori_proposals_scores'] = scores[: self.max_proposals]
        return results

    def __repr__(self) -> str:
        """Return the arguments, in the style of mmcv's transforms."""
        return (
            f'{type(self).__name__}(folder={self.folder!r}, max_proposals={self.max_proposals}, '
            f'missing={self.missing!r}, check_content={self.check_content})'
        )


@TRANSFORMS.register_module()
class ProjectProposals(BaseTransform):
    """Project the loaded proposals into the augmented view, together with their scores.

    Place this transform after the last geometric transform. mmdet's transforms record the
    homography from the original image to the view, so a single projection at the end replaces
    tracking each transform, and boxes and scores cannot get out of step. Boxes are clipped to the
    view; boxes with a side below ``min_side`` in the view, and boxes that round to the same pixels
    as a better one, are removed together with their scores.

    Required keys: ``ori_proposals``, ``ori_proposals_scores``, ``img_shape``;
    ``homography_matrix`` if the view is not the original image.
    Added keys: ``proposals`` (m, 4) float32, XYXY in pixels of the view, and
    ``proposals_scores`` (m,), which ``mmdet.PackDetInputs`` packs as
    ``data_sample.proposals = InstanceData(bboxes, scores)``.

    Args:
        min_side: Least side of a box, in pixels of the view.
        deduplicate: Whether to keep only the first (best) of boxes that round to the same pixels.
    """

    def __init__(self, min_side: float = 1.0, deduplicate: bool = True) -> None:
        self.min_side = min_side
        self.deduplicate = deduplicate

    def transform(self, results: dict) -> dict:
        """Add ``proposals`` (n, 4), XYXY in pixels of the view, and ``proposals_scores`` (n,)."""
        boxes, scores = results['ori_proposals'], results['ori_proposals_scores']
        height, width = results['img_shape'][:2]
        matrix = results.get('homography_matrix')
        if matrix is not None and len(boxes):
            boxes = project_boxes(boxes, matrix)
        results['proposals'], results['proposals_scores'] = in_view(
            boxes, scores, (height, width), self.min_side, self.deduplicate
        )
        return results

    def __repr__(self) -> str:
        """Return the arguments, in the style of mmcv's transforms."""
        return f'{type(self).__name__}(min_side={self.min_side}, deduplicate={self.deduplicate})'


@TRANSFORMS.register_module()
class RandomExposureSaturation(BaseTransform):
    """Change exposure and saturation by random factors (paper, section 4.3).

    Both factors are uniform in [1 / ``factor``, ``factor``].

    Required and modified key: ``img`` (H, W, 3) uint8, BGR.

    Args:
        factor: The largest factor.
        space: 'hsv' scales the value and the saturation of each pixel, as in the paper. 'blend',
            as in the released code, blends the image with black, and then with a grey image whose
            weights of red, green and blue are applied to blue, green and red.

    Raises:
        ValueError: ``factor`` is below 1, or ``space`` is neither 'hsv' nor 'blend'.
    """

    def __init__(self, factor: float = 1.5, space: str = 'hsv') -> None:
        if factor < 1 or space not in ('hsv', 'blend'):
            raise InputError(
                f'RandomExposureSaturation: factor {factor}, space {space!r}; expected 1 or more '
                "and 'hsv' or 'blend'"
            )
        self.factor = factor
        self.space = space

    @cache_randomness
    def _factors(self) -> tuple[float, float]:
        exposure, saturation = np.random.uniform(1 / self.factor, self.factor, 2)
        return float(exposure), float(saturation)

    def transform(self, results: dict) -> dict:
        """Replace ``img`` (H, W, 3), uint8 BGR, using newly drawn factors."""
        exposure, saturation = self._factors()
        if self.space == 'hsv':
            image = cv2.cvtColor(results['img'], cv2.COLOR_BGR2HSV).astype(np.float32)
            image[..., 1:] = (image[..., 1:] * (saturation, exposure)).clip(0, 255)
            results['img'] = cv2.cvtColor(image.round().astype(np.uint8), cv2.COLOR_HSV2BGR)
        else:
            image = (results['img'] * np.float32(exposure)).clip(0, 255).astype(np.uint8)
            grey = image @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
            image = (grey + np.float32(saturation) * (image - grey)).clip(0, 255)
            results['img'] = image.astype(np.uint8)
        return results

    def __repr__(self) -> str:
        """Return the arguments, in the style of mmcv's transforms."""
        return f'{type(self).__name__}(factor={self.factor}, space={self.space!r})'
