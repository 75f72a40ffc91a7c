"""Target heat maps of the object center (the label P of Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian_radius(width: Tensor, height: Tensor, min_overlap: float = 0.7) -> Tensor:
    """Compute CornerNet's radius: how far corners may move at an IoU of about ``min_overlap``.

    As in CornerNet, CenterNet, OSTrack and PLVL, the three roots are divided by 2 and not by 2a,
    because published results are based on this formula.

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
    """Draw one Gaussian per box, 1 in the cell nearest to its center and 0 beyond the radius.

    Args:
        boxes_cxcywh_norm: (B, 4), normalized by the image size.
        grid: Number of cells (h, w).
        clamp_center: Move a center that rounds to the far edge into the last cell. In the released
            code it falls outside the map, which loses the positive.

    Returns:
        (B, h, w) float32 in [0, 1].
    """
    boxes = boxes_cxcywh_norm.float()
    # One axis at a time, because a tensor of the two sizes would be a copy to the device.
    centers, extents = [], []
    for axis, cells in enumerate((grid[1], grid[0])):
        center = (boxes[:, axis] * cells).round()  # rounds half to even
        centers.append(center.clamp(max=cells - 1) if clamp_center else center)
        extents.append(boxes[:, 2 + axis] * cells)
    radius = gaussian_radius(extents[0], extents[1]).floor().clamp(min=0)
    sigma = (2 * radius + 1) / 6

    def squared_distance(cells: int, at: Tensor) -> tuple[Tensor, Tensor]:
        offset = torch.arange(cells, device=boxes.device) - at[:, None]
        return offset**2, offset.abs() <= radius[:, None]

    dx2, near_x = squared_distance(grid[1], centers[0])
    dy2, near_y = squared_distance(grid[0], centers[1])
    heat = torch.exp(-(dy2[:, :, None] + dx2[:, None, :]) / (2 * sigma**2)[:, None, None])
    return heat * (near_y[:, :, None] & near_x[:, None, :])
