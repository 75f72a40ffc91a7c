"""An exported PDSL without PyTorch: instances of images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from projects.common.deployment.images import ImageInput, load_image, resize, stack_rgb
from projects.common.deployment.network import Network, sigmoid
from projects.common.deployment.sidecar import read_sidecar
from projects.common.errors import InputError

from .onnx_postprocess import detections, paste_mask
from .proposals.selective_search import selective_search
from .proposals.store import in_view, tidy

__all__ = ['ONNXInstanceSegmenter']


class ONNXInstanceSegmenter:
    """Find and segment instances with onnxruntime.

    Args:
        description: The ``.json`` file that ``tools/deployment/export_onnx.py`` writes.
        threads: Number of threads. None leaves it to onnxruntime.
        providers: Execution providers of onnxruntime.

    Raises:
        FileNotFoundError: A file does not exist.
        ImportError: onnxruntime is not installed.
        InputError: The files are not an exported PDSL.

    Examples:
        >>> segment = ONNXInstanceSegmenter('pdsl.json')                   # doctest: +SKIP
        >>> segment('street.jpg')['classes'][0]                            # doctest: +SKIP
        'bicycle'
    """

    def __init__(
        self,
        description: str | os.PathLike,
        threads: int | None = None,
        providers: tuple[str, ...] = ('CPUExecutionProvider',),
    ) -> None:
        self.description = read_sidecar(description, 'pdsl')
        for field in ('classes', 'test_cfg', 'proposals', 'pad_divisor'):
            if field not in self.description:
                raise InputError(f'{description}: {field}: it is missing')
        files = self.description['networks']
        self.detect = Network(files['detect'], threads, providers)
        self.masks = Network(files['masks'], threads, providers) if 'masks' in files else None

    def __call__(self, image: ImageInput, proposals: np.ndarray | None = None) -> dict[str, Any]:
        """Find the instances in an image.

        Args:
            image: A path, the content of a file, an array (H, W, 3) uint8 in BGR or a PIL image.
            proposals: Boxes (n, 4), XYXY in pixels of the image, or (n, 5) with scores. None runs
                Selective Search.

        Returns:
            ``image_scores`` (the score of each class being present, from 0 to 1) and, for each
            instance in descending order of score, ``labels``, ``classes``, ``scores``, ``bboxes``
            [x1, y1, x2, y2] in pixels and, if the model predicts masks, ``masks`` (d, H, W) bool.

        Raises:
            FileNotFoundError: The image does not exist.
            InputError: The image cannot be read, or the proposals are no boxes.
        """
        picture = load_image(image)
        height, width = picture.shape[:2]
        resized = resize(picture, self.description['resize'])
        scale = np.array([resized.shape[1] / width, resized.shape[0] / height] * 2)
        boxes, scores = self._proposals(picture, proposals)
        size = (resized.shape[0], resized.shape[1])
        options = self.description['proposals']
        limits = {key: options[key] for key in ('min_side', 'deduplicate') if key in options}
        boxes, scores = in_view(boxes * scale, scores, size, **limits)
        pixels = stack_rgb(
            [resized], self.description['pad_divisor'], self.description['mean'] or (0, 0, 0)
        )
        rois = np.pad(boxes, ((0, 0), (1, 0)))
        if not len(rois):
            return self._result(np.full(len(self.description['classes']), 0.0), *_nothing(picture))
        given = dict(image=pixels, rois=rois, scores=scores)
        found = self.detect(**{name: given[name] for name in self.detect.inputs})
        best = detections(found['probs'], found['boxes'], size, self.description['test_cfg'])
        masks = self._masks(found, best, scale, (height, width))
        return self._result(found['image_scores'][0], best[0] / scale, *best[1:], masks)

    def _proposals(
        self, picture: np.ndarray, given: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (n, 4) in pixels of the image and scores (n,)."""
        if given is None:
            limit = self.description['proposals'].get('max_proposals')
            return tidy(selective_search(picture, max_proposals=limit), None)
        array = np.asarray(given, dtype=np.float32)
        if array.size and (array.ndim != 2 or array.shape[1] not in (4, 5)):
            raise InputError(
                f'proposals of shape {array.shape}: expected (n, 4) XYXY in pixels of the image, '
                'or (n, 5) with scores'
            )
        array = array.reshape(len(array) if array.size else 0, -1 if array.size else 4)
        return tidy(array[:, :4], array[:, 4] if array.shape[1] == 5 else None)

    def _masks(
        self,
        found: dict[str, np.ndarray],
        best: tuple[np.ndarray, np.ndarray, np.ndarray],
        scale: np.ndarray,
        shape: tuple[int, int],
    ) -> np.ndarray | None:
        """Return the masks (d, H, W) of detections in the image."""
        if self.masks is None:
            return None
        boxes, _, labels = best
        if not len(boxes):
            return np.zeros((0, *shape), dtype=bool)
        rois = np.pad(boxes, ((0, 0), (1, 0)))
        logits = self.masks(features=found['features'], rois=rois, labels=labels)['mask_logits']
        probability = sigmoid(logits)
        threshold = self.description['test_cfg']['mask_thr']
        pasted = zip(probability, boxes / scale)
        return np.stack([paste_mask(each, box, shape, threshold) for each, box in pasted])

    def _result(
        self,
        image_scores: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        masks: np.ndarray | None,
    ) -> dict[str, Any]:
        names = self.description['classes']
        result = dict(
            image_scores=image_scores.tolist(), labels=labels.tolist(),
            classes=[names[label] for label in labels], scores=scores.tolist(),
            bboxes=boxes.tolist(),
        )  # fmt: skip
        return result if masks is None else {**result, 'masks': masks}


def _nothing(picture: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return no boxes, scores, labels and masks."""
    none = np.zeros(0, dtype=np.float32)
    return none.reshape(0, 4), none, none.astype(np.int64), np.zeros((0, *picture.shape[:2]), bool)
