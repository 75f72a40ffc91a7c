"""Token elimination of EEVG (Chen et al., ECCV 2024): which visual tokens a layer goes on with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GOLDEN_RATIO = 0.6180339887498949


class TokenElimination(nn.Module):
    """Removes the visual tokens that the regression token attends to least.

    Every image loses the same number of tokens, the smallest number of tokens below the threshold
    that any image of the batch has, so that the batch stays a tensor. What is removed of an image
    therefore depends a little on the images beside it; a batch of one has no such neighbours.

    Args:
        threshold: Tokens below it, of attention scaled to [0, 1] in each image, may go: 0.015,
            or 0.0015 for fine-tuning.
        keep_ratio: Part of those that are to go, drawn at random, that stays. The draw is a fixed
            one in evaluation, so that predictions repeat; the released code draws anew.
    """

    def __init__(self, threshold: float = 0.015, keep_ratio: float = 0.1) -> None:
        super().__init__()
        self.threshold = threshold
        self.keep_ratio = keep_ratio

    @torch.no_grad()
    def forward(self, logits: Tensor, cells: Tensor, grid: tuple[int, int]) -> Tensor:
        """
        Args:
            logits: (B, n), the regression token's attention to the tokens before the softmax,
                averaged over heads.
            cells: (B, n) int64, the tokens' flat cells in the grid.
            grid: Cells (h, w).

        Returns:
            (B, m) int64, ascending: the tokens that stay.
        """
        score = neighbourhood_mean(logits.float().softmax(1), cells, grid)
        low, high = score.aminmax(dim=1, keepdim=True)
        # Without a division, which would be by 0 where all scores are equal.
        below = (score - low) < self.threshold * (high - low)
        num_removed = int(below.sum(1).min())
        order = score.argsort(dim=1, stable=True)
        lowest, kept = order[:, :num_removed], order[:, num_removed:]
        if self.training:
            draw = torch.rand(lowest.shape, device=lowest.device)
        else:  # evenly spread over the cells, and the same for a cell in every batch
            draw = (cells.gather(1, lowest) * GOLDEN_RATIO) % 1
        lucky = draw.argsort(1)[:, : int(self.keep_ratio * num_removed)]
        return torch.cat((kept, lowest.gather(1, lucky)), dim=1).sort(1).values


def neighbourhood_mean(values: Tensor, cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean over each token's 3x3 cells.

    A cell whose token is gone holds the least value of its image; one beyond the grid's edge, the
    value of the token itself.

    Args:
        values: (B, n).
        cells: (B, n) int64, the tokens' flat cells in the grid.
        grid: Cells (h, w).

    Returns:
        (B, n).
    """
    height, width = grid
    field = values.amin(1, keepdim=True).repeat(1, height * width).scatter(1, cells, values)
    field = field.view(-1, 1, height, width)
    inside = F.avg_pool2d(torch.ones_like(field[:1]), 3, stride=1, padding=1)
    mean = F.avg_pool2d(field, 3, stride=1, padding=1) + (1 - inside) * field
    return mean.flatten(1).gather(1, cells)
