"""Token elimination of EEVG (Chen et al., ECCV 2024), which selects a layer's visual tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GOLDEN_RATIO = 0.6180339887498949


class TokenElimination(nn.Module):
    """Remove the visual tokens that the regression token attends to least.

    Every image loses the same number of tokens so that the batch stays a tensor: the smallest
    number of tokens below the threshold over the images of the batch. The tokens removed from an
    image therefore depend slightly on the rest of the batch, unless the batch size is one.

    Args:
        threshold: Tokens whose attention, scaled to [0, 1] per image, is below this may be removed:
            0.015, or 0.0015 for fine-tuning.
        keep_ratio: Fraction of the selected tokens that is kept, drawn at random. The draw is fixed
            in evaluation, so that predictions are reproducible; the released code draws anew.
    """

    def __init__(self, threshold: float = 0.015, keep_ratio: float = 0.1) -> None:
        super().__init__()
        self.threshold = threshold
        self.keep_ratio = keep_ratio

    @torch.no_grad()
    def forward(self, logits: Tensor, cells: Tensor, grid: tuple[int, int]) -> Tensor:
        """Select the tokens to keep.

        Args:
            logits: (B, n), attention of the regression token to the tokens before the softmax,
                averaged over heads.
            cells: (B, n) int64, flat grid cells of the tokens.
            grid: Number of cells (h, w).

        Returns:
            (B, m) int64, ascending: indices of the tokens that are kept.
        """
        score = neighbourhood_mean(logits.float().softmax(1), cells, grid)
        low, high = score.aminmax(dim=1, keepdim=True)
        # Avoid a division, which would be by 0 if all scores are equal.
        below = (score - low) < self.threshold * (high - low)
        num_removed = int(below.sum(1).min())
        order = score.argsort(dim=1, stable=True)
        lowest, kept = order[:, :num_removed], order[:, num_removed:]
        if self.training:
            draw = torch.rand(lowest.shape, device=lowest.device)
        else:  # evenly spread over the cells and independent of the batch
            draw = (cells.gather(1, lowest) * GOLDEN_RATIO) % 1
        lucky = draw.argsort(1)[:, : int(self.keep_ratio * num_removed)]
        return torch.cat((kept, lowest.gather(1, lucky)), dim=1).sort(1).values


def neighbourhood_mean(values: Tensor, cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Compute the mean over the 3x3 cells around each token.

    A cell without a token has the smallest value of its image; a cell beyond the edge of the grid
    has the value of the token itself.

    Args:
        values: (B, n).
        cells: (B, n) int64, flat grid cells of the tokens.
        grid: Number of cells (h, w).

    Returns:
        (B, n).
    """
    height, width = grid
    field = values.amin(1, keepdim=True).repeat(1, height * width).scatter(1, cells, values)
    field = field.view(-1, 1, height, width)
    inside = F.avg_pool2d(torch.ones_like(field[:1]), 3, stride=1, padding=1)
    mean = F.avg_pool2d(field, 3, stride=1, padding=1) + (1 - inside) * field
    return mean.flatten(1).gather(1, cells)
