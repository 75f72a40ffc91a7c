"""GrabCut as a bottom-up cue, with results that do not depend on the number of threads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from mmengine.registry import MODELS

from projects.common.errors import InputError

from .base import BottomUpCue, check_boxes, fill_box, resize_mask
from .windows import in_threads

__all__ = ['GrabCutCue', 'grabcut_rectangle']

_BORDER = 3  # pixels of background around a rectangle that covers the whole image
_MIN_AREA = 9  # square pixels; for a smaller rectangle, the box itself is the mask


@MODELS.register_module()
class GrabCutCue(BottomUpCue):
    """Segment the foreground of boxes with GrabCut (Rother et al. 2004), as in the released code.

    The image is scaled so that its longer side has at most ``max_side`` pixels, the box's rectangle
    initialises the foreground model, and the mask is scaled back.

    OpenCV seeds the Gaussian mixtures from a random state that every call advances, so the
    published masks depend on the order of all previous calls. Here the state is set before each
    call from the scaled image's pixels (the image and its view) and the rectangle. Masks are
    therefore bit-identical for any order of the boxes and any number of threads.

    Special cases:

    - If a box lies outside the image, the mask is empty.
    - If the rectangle is smaller than 9 square pixels, the mask is the box.
    - If GrabCut finds no foreground, as in any flat image, the mask is the box.
    - If the rectangle covers the whole image, GrabCut has no background to learn from: a border of
      3 pixels is treated as background. If nothing would remain, the mask is the box.
    - If a box extends beyond the image, only the part inside the image is used.

    Args:
        iterations: Iterations of GrabCut; 5 in the released code.
        max_side: Largest longer side, in pixels, of the image passed to GrabCut; 400 in the
            released code. Smaller images are not scaled. None disables scaling.
        num_threads: Number of threads; None uses the process's share of the cores.
        seed: Seed of the run.
    """

    def __init__(
        self,
        iterations: int = 5,
        max_side: int | None = 400,
        num_threads: int | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (
            ('iterations', iterations),
            ('max_side', max_side),
            ('num_threads', num_threads),
        ):
            if value is not None and value < 1:
                raise InputError(f'GrabCutCue: {name} is {value}, expected 1 or more')
        self.iterations = iterations
        self.max_side = max_side
        self.num_threads = num_threads
        self.seed = seed

    def fingerprint(self) -> str:
        """Return OpenCV's version, iterations, size and seed, all of which change the masks."""
        return (
            f'grabcut-1 opencv={cv2.__version__} iterations={self.iterations} '
            f'max_side={self.max_side} seed={self.seed}'
        )

    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        metainfo: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Compute the masks (n, H, W) at the reduced size; fall back to the box if one is empty."""
        boxes = check_boxes(boxes, image)
        height, width = image.shape[:2]
        masks = np.zeros((len(boxes), height, width), dtype=bool)
        scale = min(1.0, (self.max_side or np.inf) / max(height, width))
        if scale < 1:
            small = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
        else:
            small = np.ascontiguousarray(image)
        view = hashlib.blake2b(small.tobytes(), digest_size=16)
        view.update(repr((small.shape, self.seed)).encode())

        boxes_of: dict[tuple[int, int, int, int], list[int]] = {}
        for index, box in enumerate(boxes):
            rectangle = grabcut_rectangle(box, image.shape[:2], small.shape[:2])
            if rectangle is None:
                fill_box(masks[index], box)
            else:
                boxes_of.setdefault(rectangle, []).append(index)

        def cut(item: tuple[tuple[int, int, int, int], list[int]]) -> None:
            rectangle, indices = item
            found = self._cut(small, rectangle, view.digest())
            for index in indices:
                if found.any():
                    masks[index] = resize_mask(found, height, width)
                if not masks[index].any():  # no foreground, or lost in scaling
                    fill_box(masks[index], boxes[index])

        for _ in in_threads(cut, boxes_of.items(), self.num_threads):  # OpenCV releases the GIL
            pass
        return masks

    def _cut(
        self, image: np.ndarray, rectangle: tuple[int, int, int, int], view: bytes
    ) -> np.ndarray:
        key = hashlib.blake2b(repr(rectangle).encode(), key=view, digest_size=4)
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        # OpenCV keeps one random state per thread.
        cv2.setRNGSeed(int.from_bytes(key.digest(), 'little') >> 1)
        cv2.grabCut(
            image,
            mask,
            rectangle,
            background,
            foreground,
            self.iterations,
            cv2.GC_INIT_WITH_RECT,
        )
        return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def grabcut_rectangle(
    box: np.ndarray, size: tuple[int, int], scaled_size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the box's GrabCut rectangle (x, y, width, height), or None if the box is the mask.

    Args:
        box: XYXY in pixels of the image.
        size: (height, width) of the image.
        scaled_size: (height, width) of the image passed to GrabCut.
    """
    height, width = scaled_size
    scale = np.array([width / size[1], height / size[0]] * 2)
    # Truncate and include the last pixel, as in the released code, then clip to the image.
    x1, y1, x2, y2 = np.clip(box * scale, -1e6, 1e6).astype(int).tolist()
    x2, y2 = min(x2 + 1, width), min(y2 + 1, height)
    x1, y1 = max(x1, 0), max(y1, 0)
    if box[2] <= box[0] or box[3] <= box[1] or (x2 - x1) <= 0 or (y2 - y1) <= 0:
        return None
    if (x2 - x1) * (y2 - y1) < _MIN_AREA:
        return None
    if (x1, y1, x2, y2) == (0, 0, width, height):
        if min(width, height) <= 2 * _BORDER:
            return None
        return _BORDER, _BORDER, width - 2 * _BORDER, height - 2 * _BORDER
    return x1, y1, x2 - x1, y2 - y1
