"""Detections and masks from the outputs of an exported PDSL, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

__all__ = ['detections', 'paste_mask']


def detections(
    probs: np.ndarray, boxes: np.ndarray, shape: tuple[int, int], test_cfg: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Select the detections of an image: clipping, score threshold and NMS by class.

    This is :func:`projects.pdsl.models.detections.detections` without tags.

    Args:
        probs: (n, n_c + 1), the last class being the background.
        boxes: (n, n_c, 4), XYXY in pixels.
        shape: Height and width of the image, in pixels.
        test_cfg: ``score_thr``, ``iou_threshold`` and ``max_per_img``.

    Returns:
        Boxes (d, 4) and scores (d,), float32, and labels (d,) int64, best first.
    """
    height, width = shape
    boxes = np.clip(boxes.astype(np.float32), 0, np.array([width, height] * 2, np.float32))
    scores = probs[:, :-1].astype(np.float32)
    scores[(boxes[..., 2:] <= boxes[..., :2]).any(-1)] = -1
    found: list[tuple[int, int]] = []
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(scores[:, label] > test_cfg['score_thr'])
        if not len(rows):
            continue
        corners = boxes[rows, label].astype(np.float64)
        sides = corners[:, 2:] - corners[:, :2]
        # All of these count: they are above a threshold, and probabilities above 0.
        kept = cv2.dnn.NMSBoxes(
            np.concatenate([corners[:, :2], sides], axis=1).tolist(),
            scores[rows, label].tolist(),
            0.0,
            test_cfg['iou_threshold'],
        )
        found += [(int(rows[i]), label) for i in np.asarray(kept).flatten()]
    index = np.array(found, dtype=np.int64).reshape(-1, 2)
    values = scores[index[:, 0], index[:, 1]]
    order = np.argsort(-values, kind='stable')[: test_cfg['max_per_img']]
    index, values = index[order], values[order]
    return boxes[index[:, 0], index[:, 1]], values, index[:, 1]


def paste_mask(
    probability: np.ndarray, box: np.ndarray, shape: tuple[int, int], threshold: float
) -> np.ndarray:
    """Paste the mask of a box into an image, like mmdet's ``_do_paste_mask`` on a CPU.

    Args:
        probability: (s, s), of the cells of the box.
        box: (4,), XYXY in pixels.
        shape: Height and width of the image, in pixels.
        threshold: Probability from which a pixel belongs to the mask.

    Returns:
        (H, W) bool.
    """
    mask = np.zeros(shape, dtype=bool)
    spans, weights = [], []
    for axis, cells in ((1, probability.shape[0]), (0, probability.shape[1])):
        low, high = np.float32(box[axis]), np.float32(box[axis + 2])
        limit = shape[0] if axis == 1 else shape[1]
        start, stop = max(int(np.floor(low)) - 1, 0), min(int(np.ceil(high)) + 1, limit)
        pixels = np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
        place = (pixels - low) / max(high - low, np.float32(1e-6)) * cells - np.float32(0.5)
        # bilinear interpolation, with zeros beyond the cells
        weights.append(np.maximum(1 - np.abs(place[:, None] - np.arange(cells)), 0))
        spans.append(slice(start, stop))
    mask[spans[0], spans[1]] = weights[0] @ probability @ weights[1].T >= threshold
    return mask
