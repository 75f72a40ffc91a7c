"""Choose segments of an image for boxes of an augmented view, warping as few pixels as possible."""

from __future__ import annotations

import numpy as np

from ..geometry import project_boxes
from .warping import warp_levels, warp_window
from .windows import in_threads

__all__ = ['SegmentsInView']

# OpenCV rounds coordinates to 1/32 pixel, in another way for each window: by 8 of 255 and by 1.
_ROUNDING = 9


class SegmentsInView:
    """Warp segments into a view when they are asked for.

    The box around a warped segment decides for which boxes it is taken. It is found by warping the
    segment's surroundings alone, which is exact but for pixels that are half inside. Only where
    these matter is the whole view warped.

    Args:
        segments: Masks (m, h, w), bool.
        matrix: Homography (3, 3) from the image to the view.
        size: Height and width of the view.
    """

    def __init__(self, segments: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> None:
        self.segments = segments
        self.matrix = matrix
        self.size = size
        self._warped: dict[int, np.ndarray] = {}

    def warped(self, index: int) -> np.ndarray:
        """Return a segment in the view (H, W), bool."""
        if index not in self._warped:
            height, width = self.size
            whole = (0, 0, width, height)
            self._warped[index] = warp_window(self.segments[index], self.matrix, whole)
        return self._warped[index]

    def choose(self, boxes: np.ndarray, min_iou: float) -> np.ndarray:
        """Return for each box (n, 4) the segment (n,) whose own box has the largest IoU with it.

        -1 stands for none: the IoU is below ``min_iou``.
        """
        chosen = np.full(len(boxes), -1)
        if not len(boxes) or not len(self.segments):
            return chosen
        found = list(in_threads(self._extents, range(len(self.segments))))
        inner, outer = (np.array(each, dtype=float) for each in zip(*found))
        low, high = _iou_bounds(boxes, inner, outer)
        contends = (high >= low.max(axis=1, keepdims=True)) & (high >= min_iou)
        contends &= high > 0
        # more than one, or one that may be too far: let their exact boxes decide
        open_rows = (contends.sum(axis=1) > 1) | (contends & (low < min_iou)).any(axis=1)
        unsure = np.flatnonzero(contends[open_rows].any(axis=0) & (inner != outer).any(axis=1))
        for index, mask in zip(unsure, in_threads(self.warped, unsure.tolist())):
            outer[index] = extent(mask)
        exact = np.where(contends, _iou_bounds(boxes, outer, outer)[0], -1)
        best = exact.argmax(axis=1)
        near = exact[np.arange(len(boxes)), best]
        # a sure contender's box may still be the outer one
        sure = ~open_rows & contends.any(axis=1)
        chosen[sure | (near >= min_iou)] = best[sure | (near >= min_iou)]
        return chosen

    def _extents(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest box around a warped segment."""
        height, width = self.size
        whole = np.array([0.0, 0.0, width, height])
        if np.array_equal(self.matrix[2], [0, 0, 1]):
            x1, y1, x2, y2 = extent(self.segments[index])
            if x2 <= x1:
                return np.zeros(4), np.zeros(4)
            # a pixel of the view reaches as far as the next pixel of the image
            box = project_boxes(np.array([[x1 - 1, y1 - 1, x2 + 1, y2 + 1]]), self.matrix)[0]
            low, high = np.floor(box[:2]) - 1, np.ceil(box[2:]) + 1
            whole = np.concatenate((np.maximum(low, 0), np.minimum(high, whole[2:])))
        x1, y1, x2, y2 = whole.astype(int).tolist()
        if x2 <= x1 or y2 <= y1:
            return np.zeros(4), np.zeros(4)
        warped = warp_levels(self.segments[index], self.matrix, (x1, y1, x2, y2))
        offset = np.array([x1, y1, x1, y1])
        inner, outer = (extent(warped >= 128 + d) for d in (_ROUNDING, -_ROUNDING))
        return tuple(e + offset if e.any() else e for e in (inner, outer))  # type: ignore[return-value]


def extent(mask: np.ndarray) -> np.ndarray:
    """Return the box (4,) around a mask (H, W), XYXY; 0 if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)


def _iou_bounds(
    boxes: np.ndarray, inner: np.ndarray, outer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the IoU (n, m) of boxes with any box that lies between an inner and an outer one.

    Where both are the same, this is :func:`.pairwise_iou`, bit for bit.
    """
    common = [_common(boxes, each) for each in (inner, outer)]
    area, *areas = (
        (each[:, 2:] - each[:, :2]).clip(0).prod(axis=1) for each in (boxes, inner, outer)
    )
    unions = [area[:, None] + each[None] - both for each, both in zip(areas, common)]
    low = common[0] / unions[1].clip(1e-9)
    high = common[1] / unions[0].clip(1e-9)
    return low, high


def _common(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (bottom_right - top_left).clip(0).prod(axis=2)
