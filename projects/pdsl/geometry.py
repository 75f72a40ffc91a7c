"""Geometry of boxes in images and their augmented views."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ['box_overlaps', 'pairwise_iou', 'project_boxes']


def project_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the smallest boxes around the projected corners of boxes.

    Args:
        boxes: Boxes (n, 4), XYXY in pixels.
        matrix: Homography (3, 3), as recorded by mmdet's transforms.

    Returns:
        Boxes (n, 4), float64.
    """
    x1, y1, x2, y2 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    corners = np.stack([x1, y1, x2, y1, x1, y2, x2, y2], axis=1).reshape(-1, 4, 2)
    corners = np.concatenate([corners, np.ones((len(corners), 4, 1))], axis=2)
    corners = corners @ np.asarray(matrix, dtype=np.float64).T
    corners = corners[..., :2] / corners[..., 2:]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the IoU (n, m) of XYXY boxes (n, 4) and (m, 4); 0 if neither has an area."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (bottom_right - top_left).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (a, b)]
    return common / (areas[0][:, None] + areas[1][None] - common).clip(1e-9)


def box_overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Compute mmdet's ``bbox_overlaps`` of XYXY boxes (n, 4) and (m, 4): the IoU (n, m).

    mmdet's copies a constant to the device, for which the host waits.
    """
    low = torch.max(a[:, None, :2], b[None, :, :2])
    high = torch.min(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    first, second = ((each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (a, b))
    return common / (first[:, None] + second[None] - common).clamp(min=1e-6)
