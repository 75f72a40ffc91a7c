"""SSP: a polynomial loss of the scores of the positive and the hardest negative."""

from __future__ import annotations

import torch
from torch import Tensor

from projects.common.registry import MODELS

from .anchors import Anchors
from .base import MatchingLoss

# Coefficients of the released code, constant term first.
POSITIVE = (0.5, -0.7, 0.2)
NEGATIVE = (0.03, -0.4, 0.9)


def ssp(anchors: Anchors, margin: float) -> Tensor:
    """Compute [0.2 p^2 - 0.7 p + 0.5]_+ + [0.9 n^2 - 0.4 n + 0.03]_+ (B,) of every anchor.

    p is the score of the positive, n that of the hardest negative. An anchor only counts while
    p < 1 - 1e-5 and n + margin > p.
    """
    # negated, so that NaN counts and propagates
    passed = (anchors.hardest + margin <= anchors.positive) | (anchors.positive >= 1 - 1e-5)
    counts = ~passed
    # 0 instead of -inf, whose square would make the gradient NaN
    hardest = torch.where(counts, anchors.hardest, torch.zeros_like(anchors.positive))
    loss = _polynomial(anchors.positive, POSITIVE) + _polynomial(hardest, NEGATIVE)
    return torch.where(counts, loss, torch.zeros_like(loss))


def _polynomial(score: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    constant, linear, square = coefficients
    return (constant + linear * score + square * score**2).relu()


@MODELS.register_module()
class SSPLoss(MatchingLoss):
    """Compute the Self-Similarity Polynomial loss of Table 4, following its released code.

    Args:
        margin: Negatives that score more than this below the positive do not count. The released
            code leaves the value to its users.
        reduction: See :class:`MatchingLoss`. The released code uses ``batch_mean``.
        loss_weight: Factor applied to the result.
        patience: See :class:`MatchingLoss`.
    """

    def __init__(
        self,
        margin: float = 0.2,
        reduction: str = 'batch_mean',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor; see :func:`ssp`."""
        return ssp(anchors, self.margin)
