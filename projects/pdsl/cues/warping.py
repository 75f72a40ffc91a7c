"""Warp masks of an image into its augmented views."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ['warp_levels', 'warp_window']


def warp_window(
    mask: np.ndarray, matrix: np.ndarray, limits: tuple[int, int, int, int]
) -> np.ndarray:
    """Warp a mask into a view, within a window.

    Args:
        mask: Mask (h, w) of the original image, bool.
        matrix: Homography (3, 3) from the original image to the view, in coordinates where the
            first pixel's centre is at (0.5, 0.5).
        limits: Pixels [x1, x2) x [y1, y2) of the view as (x1, y1, x2, y2).

    Returns:
        Mask (y2 - y1, x2 - x1), bool.
    """
    x1, y1, x2, y2 = limits
    if x2 <= x1 or y2 <= y1:
        return np.zeros((max(0, y2 - y1), max(0, x2 - x1)), dtype=bool)
    return warp_levels(mask, matrix, limits) >= 128


def warp_levels(
    mask: np.ndarray, matrix: np.ndarray, limits: tuple[int, int, int, int]
) -> np.ndarray:
    """Warp a mask to a window with at least one pixel, as levels from 0 to 255."""
    x1, y1, x2, y2 = limits
    # OpenCV puts the origin at the centre of the first pixel.
    matrix = _shift(-x1 - 0.5, -y1 - 0.5) @ matrix @ _shift(0.5, 0.5)
    source = np.asarray(mask, dtype=bool).view(np.uint8) * np.uint8(255)
    size = (x2 - x1, y2 - y1)
    if np.array_equal(matrix[2], [0, 0, 1]):  # takes half of the time
        return cv2.warpAffine(source, matrix[:2], size, flags=cv2.INTER_LINEAR)
    return cv2.warpPerspective(source, matrix, size, flags=cv2.INTER_LINEAR)


def _shift(x: float, y: float) -> np.ndarray:
    """Return the homography that moves by (x, y)."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
