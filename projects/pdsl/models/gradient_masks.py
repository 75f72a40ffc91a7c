"""Pseudo masks from detections, for cascade learning (paper, section 4.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def threshold_heatmaps(heat: Tensor, boxes: Tensor, kernel: int = 9) -> Tensor:
    """Find where a smoothed heat map is above its own mean inside its box.

    Args:
        heat: (k, H, W), not negative.
        boxes: (k, 4), XYXY in pixels.
        kernel: Side of the window that is averaged, odd, in pixels.

    Returns:
        (k, H, W) bool, nothing outside the box; the whole box where the heat is flat.
    """
    heat = F.avg_pool2d(heat[:, None], kernel, 1, kernel // 2, count_include_pad=False)[:, 0]
    ys = torch.arange(heat.shape[1], device=heat.device)[:, None] + 0.5
    xs = torch.arange(heat.shape[2], device=heat.device) + 0.5
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    inside = (xs > x1) & (xs < x2) & (ys > y1) & (ys < y2)
    mean = (heat * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    masks = inside & (heat > mean[:, None, None])
    empty = ~masks.flatten(1).any(1)
    return torch.where(empty[:, None, None], inside, masks)
