"""Centre heat maps that the head learns (the label P of Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian_radius(width: Tensor, height: Tensor, min_overlap: float = 0.7) -> Tensor:
    """CornerNet's radius: how far corners may move at an IoU of about ``min_overlap``.

    The three roots are taken as CornerNet, CenterNet, OSTrack and PLVL take them, divided by 2
    and not by 2a; published numbers stand on it.

    Args:
        width: (B,) in cells.
        height: (B,) in cells.
        min_overlap: IoU.

    Returns:
        (B,) radius in cells, not rounded.
    """

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (b + (b**2 - 4 * a * c).sqrt()) / 2

    area, total = width * height, width + height
    return torch.stack(
        (
            root(1, total, area * (1 - min_overlap) / (1 + min_overlap)),
            root(4, 2 * total, area * (1 - min_overlap)),
            root(4 * min_overlap, -2 * min_overlap * total, area * (min_overlap - 1)),
        )
    ).amin(0)


def center_heatmaps(
    boxes_cxcywh_norm: Tensor, grid: Sequence[int], clamp_center: bool = True
) -> Tensor:
    """One Gaussian a box, 1 in the cell nearest to its centre, 0 beyond the radius.

    Args:
        boxes_cxcywh_norm: (B, 4), in parts of the image.
        grid: Cells (h, w).
        clamp_center: Move a centre that rounds to the far edge into the last cell. The released
            code lets it fall out of the map and so loses the positive.

    Returns:
        (B, h, w) float32 in [0, 1].
    """
    boxes = boxes_cxcywh_norm.float()
    size = boxes.new_tensor([grid[1], grid[0]])
    center = (boxes[:, :2] * size).round()  # half to even
    if clamp_center:
        center = torch.minimum(center, size - 1)
    extent = boxes[:, 2:] * size
    radius = gaussian_radius(extent[:, 0], extent[:, 1]).floor().clamp(min=0)
    sigma = (2 * radius + 1) / 6

    def squared_distance(cells: int, at: Tensor) -> tuple[Tensor, Tensor]:
        offset = torch.arange(cells, device=boxes.device) - at[:, None]
        return offset**2, offset.abs() <= radius[:, None]

    dx2, near_x = squared_distance(grid[1], center[:, 0])
    dy2, near_y = squared_distance(grid[0], center[:, 1])
    heat = torch.exp(-(dy2[:, :, None] + dx2[:, None, :]) / (2 * sigma**2)[:, None, None])
    return heat * (near_y[:, :, None] & near_x[:, None, :])
