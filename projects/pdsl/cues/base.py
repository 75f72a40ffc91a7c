"""What every bottom-up cue has in common (PDSL, section 3.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from projects.common.errors import InputError

__all__ = [
    'BottomUpCue',
    'check_boxes',
    'clip_to_pixels',
    'fill_box',
    'resize_mask',
    'view_matrix',
]


class BottomUpCue(ABC):
    """Class-agnostic foreground of boxes, from the picture's low-level appearance.

    A cue gives the pseudo ground truth of the class-agnostic mask head, M-hat^0 of Eq. 5. It is a
    plain callable without weights, built from a config through ``MODELS``.
    """

    @abstractmethod
    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Foreground masks, one for each box.

        Args:
            image: (H, W, 3) uint8, BGR, the picture as the model sees it, without normalisation
                and padding.
            boxes: (n, 4) XYXY in pixels of ``image``.
            metainfo: The data sample's metainfo. Cues that know the picture by its file read
                ``img_path`` and, for an augmented view, ``homography_matrix``.

        Returns:
            (n, H, W) bool. A box without a pixel of the picture has an empty mask; any other has
            at least one pixel.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Everything beside picture and box that the masks depend on, for the cache's key."""


def check_boxes(boxes: Any, image: np.ndarray) -> np.ndarray:
    """(n, 4) float64 of finite XYXY.

    Raises:
        ValueError: The image is not (H, W, 3) uint8 with pixels, or the boxes are of another
            shape or not finite.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(
            f'image of a cue: found {image.dtype} of shape {image.shape}, expected uint8 of shape '
            '(height, width, 3)'
        )
    boxes = np.asarray(boxes, dtype=np.float64)
    if not boxes.size:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f'boxes of a cue: found shape {boxes.shape}, expected (n, 4)')
    finite = np.isfinite(boxes).all(axis=1)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise InputError(f'boxes of a cue: box {index} is {boxes[index].tolist()}, not finite')
    return boxes


def view_matrix(
    metainfo: Mapping[str, Any], view: tuple[int, int], original: tuple[int, int] | None, cue: str
) -> np.ndarray:
    """(3, 3) from coordinates of the original picture to those of a view of it.

    Args:
        metainfo: Of the data sample. ``homography_matrix`` is there once a transform of mmdet's has
            changed the picture, unless ``PackDetInputs`` leaves it out.
        view: Height and width of the view.
        original: Height and width of the original picture, if the cue knows them.
        cue: Name of the cue, for the message.

    Raises:
        ValueError: There is no matrix, and the view is not the original picture.
    """
    matrix = metainfo.get('homography_matrix')
    if matrix is not None:
        return np.asarray(matrix, dtype=np.float64)
    if metainfo.get('flip') or (original is not None and tuple(original) != tuple(view)):
        raise InputError(
            f'{cue}: {metainfo.get("img_path")} was resized or flipped, and the metainfo has no '
            "homography_matrix; add it to PackDetInputs' meta_keys"
        )
    return np.eye(3)


def clip_to_pixels(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels [x1, x2) x [y1, y2) of a picture that a box touches, as (x1, y1, x2, y2).

    Outside of the picture, or where corners are in the wrong order, x2 <= x1 or y2 <= y1.
    """
    limit = (width, height, width, height)
    x1, y1, x2, y2 = (float(np.clip(value, 0, most)) for value, most in zip(box, limit))
    return int(x1), int(y1), int(np.ceil(x2)), int(np.ceil(y2))


def fill_box(mask: np.ndarray, box: np.ndarray) -> None:
    """Set the pixels of ``mask`` (H, W) that ``box`` (XYXY) touches."""
    x1, y1, x2, y2 = clip_to_pixels(box, *mask.shape)
    if x2 > x1 and y2 > y1:
        mask[y1:y2, x1:x2] = True


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing of a (h, w) bool mask, then >= 0.5."""
    import cv2

    if mask.shape == (height, width):
        return mask
    # 0 and 255 interpolate in integers: 128 is the first value from one half on.
    scaled = cv2.resize(mask.astype(np.uint8) * 255, (width, height))
    return scaled >= 128
