"""Selective Search (Uijlings et al. 2013), as OpenCV's contributed modules have it."""

from __future__ import annotations

import ctypes
import threading

import cv2
import numpy as np

__all__ = ['selective_search']

_LOCK = threading.Lock()


def selective_search(
    image: np.ndarray,
    quality: bool = False,
    max_proposals: int | None = 2000,
    min_side: float = 0,
    max_side: int | None = None,
) -> np.ndarray:
    """Proposals of a picture, in the algorithm's own order; the same at every call.

    Args:
        image: (H, W, 3) uint8, BGR.
        quality: The slow set of strategies with more boxes, in place of the fast one.
        max_proposals: How many of the first to keep; None for all.
        min_side: Boxes with a side below this, in pixels of ``image``, are left out.
        max_side: Longer side of the picture that is searched; larger ones are scaled down.

    Returns:
        (n, 4) float32, XYXY in pixels.

    Raises:
        ModuleNotFoundError: OpenCV without its contributed modules.
    """
    if not hasattr(cv2, 'ximgproc') or not hasattr(cv2.ximgproc, 'segmentation'):
        raise ModuleNotFoundError(
            'Selective Search is in opencv-contrib-python-headless; it replaces other OpenCV '
            'packages, of which only one may be installed'
        )
    height, width = image.shape[:2]
    scale = min(1.0, (max_side or np.inf) / max(height, width))
    if scale < 1:
        image = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
    if min(image.shape[:2]) < 2:
        return np.array([[0, 0, width, height]], dtype=np.float32)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    if quality:
        search.switchToSelectiveSearchQuality()
    else:
        search.switchToSelectiveSearchFast()
    with _LOCK:
        # Boxes are ranked with C's rand(), of which a process has one state.
        ctypes.CDLL(None).srand(0)
        found = search.process()
    boxes_xywh = np.asarray(found, dtype=np.float32).reshape(-1, 4)
    boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    boxes *= np.array([width / image.shape[1], height / image.shape[0]] * 2, dtype=np.float32)
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= max(min_side, 1) if len(boxes) else []
    return boxes[large][:max_proposals]
