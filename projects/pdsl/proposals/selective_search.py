"""Selective Search (Uijlings et al. 2013), from OpenCV's contributed modules."""

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
    """Return deterministic proposals for an image, in the order of the algorithm.

    The order is drawn from C's ``rand()`` and differs if another thread of the process draws from
    it meanwhile, as the telemetry of onnxruntime does (:mod:`projects.common.deployment` turns it
    off).

    Args:
        image: Image (H, W, 3), uint8 BGR.
        quality: Use the slow set of strategies, which yields more boxes, instead of the fast one.
        max_proposals: Keep at most this many of the first proposals; None keeps all.
        min_side: Drop boxes with a side below this, in pixels of ``image``.
        max_side: Largest longer side of the image to search; larger images are scaled down.

    Returns:
        Boxes (n, 4), float32, XYXY in pixels.

    Raises:
        ModuleNotFoundError: OpenCV lacks its contributed modules.
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
        # OpenCV ranks boxes with C's rand(), whose state is global to the process.
        ctypes.CDLL(None).srand(0)
        found = search.process()
    boxes_xywh = np.asarray(found, dtype=np.float32).reshape(-1, 4)
    boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    boxes *= np.array([width / image.shape[1], height / image.shape[0]] * 2, dtype=np.float32)
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= max(min_side, 1) if len(boxes) else []
    return boxes[large][:max_proposals]
