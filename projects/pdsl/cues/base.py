"""Base class and helper functions of bottom-up cues (PDSL, section 3.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from projects.common.errors import InputError

from .windows import Window, crop_windows, in_threads

__all__ = [
    'BottomUpCue',
    'WindowCue',
    'check_boxes',
    'clip_to_pixels',
    'crops_of',
    'fill_box',
    'resize_mask',
    'view_matrix',
]


class BottomUpCue(ABC):
    """Segment the class-agnostic foreground of boxes by low-level image appearance.

    A cue provides the pseudo ground truth of the class-agnostic mask head, M-hat^0 of Eq. 5. It is
    a plain callable without weights, built from a config through ``MODELS``.
    """

    @abstractmethod
    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Compute one foreground mask per box.

        Args:
            image: Image as the model sees it, (H, W, 3) uint8 BGR, before normalisation and
                padding.
            boxes: Boxes (n, 4), XYXY in pixels of ``image``.
            metainfo: Metainfo of the data sample. Cues that identify the image by its file read
                ``img_path`` and, for an augmented view, ``homography_matrix``.

        Returns:
            Masks (n, H, W), bool. The mask is empty for a box that lies outside the image; any
            other mask has at least one pixel.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return everything but image and box that affects the masks, for the cache key."""

    def crops(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None,
        rois: np.ndarray,
        nearest: np.ndarray,
        size: int,
    ) -> np.ndarray:
        """Compute what training reads of the masks, by default from whole masks.

        :class:`WindowCue` makes masks within their boxes alone.

        Args:
            image: As for a call, like ``boxes`` and ``metainfo``.
            boxes: Boxes (s, 4), one for each mask.
            metainfo: Metainfo of the data sample.
            rois: Boxes (m, 4), XYXY in pixels, to which the masks are cropped.
            nearest: Index (m,) of the mask for each of them.
            size: Height and width of a crop.

        Returns:
            Crops (m, size, size), float32, of 0 and 1; see :func:`.crop_masks`.
        """
        return crops_of(self, image, boxes, metainfo, rois, nearest, size)


class WindowCue(BottomUpCue):
    """Make each mask within its box alone, so that training reads no whole masks."""

    @abstractmethod
    def windows(
        self, image: np.ndarray, boxes: np.ndarray, metainfo: Mapping[str, Any] | None
    ) -> tuple[np.ndarray, Callable[[int], Window]]:
        """Return the checked boxes, and a function that makes the mask of one of them.

        Several threads call the function at once.
        """

    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Compute one mask (n, H, W) per box; see :class:`BottomUpCue`."""
        boxes, window = self.windows(image, boxes, metainfo)
        masks = np.zeros((len(boxes), *image.shape[:2]), dtype=bool)
        for index, ((x1, y1, x2, y2), mask) in enumerate(in_threads(window, range(len(boxes)))):
            masks[index, y1:y2, x1:x2] = mask
        return masks

    def crops(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None,
        rois: np.ndarray,
        nearest: np.ndarray,
        size: int,
    ) -> np.ndarray:
        """Compute crops (m, size, size) from masks within their boxes; see the base class."""
        _, window = self.windows(image, boxes, metainfo)
        return crop_windows(window, image.shape[:2], rois, nearest, size)


def crops_of(
    cue: Callable,
    image: np.ndarray,
    boxes: np.ndarray,
    metainfo: Mapping[str, Any] | None,
    rois: np.ndarray,
    nearest: np.ndarray,
    size: int,
) -> np.ndarray:
    """Crop the whole masks of any callable; see :meth:`BottomUpCue.crops`."""
    masks = np.asarray(cue(image, boxes, metainfo))
    height, width = image.shape[:2]
    whole = (0, 0, width, height)
    return crop_windows(lambda i: (whole, masks[i]), (height, width), rois, nearest, size)


def check_boxes(boxes: Any, image: np.ndarray) -> np.ndarray:
    """Return boxes as float64 (n, 4) XYXY after checking them and the image.

    Raises:
        ValueError: The image is not (H, W, 3) uint8 or is empty, or the boxes have the wrong shape
            or are not finite.
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
    """Return the (3, 3) homography from the original image to an augmented view of it.

    Args:
        metainfo: Metainfo of the data sample. mmdet's transforms set ``homography_matrix`` once
            they change the image; ``PackDetInputs`` may drop it.
        view: Height and width of the view.
        original: Height and width of the original image, if the cue knows them.
        cue: Name of the cue, for the error message.

    Raises:
        ValueError: The matrix is missing, and the view differs from the original image.
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
    """Return the pixel range [x1, x2) x [y1, y2) that a box touches, as (x1, y1, x2, y2).

    If the box lies outside the image or its corners are in the wrong order, x2 <= x1 or y2 <= y1.
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
    """Resize a bool mask (h, w) bilinearly and threshold it at >= 0.5."""
    import cv2

    if mask.shape == (height, width):
        return mask
    # OpenCV interpolates 0 and 255 in integers: 128 is the first value at or above one half.
    scaled = cv2.resize(mask.astype(np.uint8) * 255, (width, height))
    return scaled >= 128
