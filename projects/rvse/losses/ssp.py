"""SSP: a polynomial loss of the positive's and of the hardest negative's score."""

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
    """[0.2 p^2 - 0.7 p + 0.5]_+ + [0.9 n^2 - 0.4 n + 0.03]_+ of every anchor: (B,).

    p is the positive's score, n the hardest negative's. An anchor counts while p < 1 - 1e-5 and
    n + margin > p.
    """
    # as what does not count, so that a NaN counts and stays one
    passed = (anchors.hardest + margin <= anchors.positive) | (anchors.positive >= 1 - 1e-5)
    counts = ~passed
    # 0 in place of -inf, whose square would make the gradient NaN
    hardest = torch.where(counts, anchors.hardest, torch.zeros_like(anchors.positive))
    loss = _polynomial(anchors.positive, POSITIVE) + _polynomial(hardest, NEGATIVE)
    return torch.where(counts, loss, torch.zeros_like(loss))


def _polynomial(score: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    constant, linear, square = coefficients
    return (constant + linear * score + square * score**2).relu()


@MODELS.register_module()
class SSPLoss(MatchingLoss):
    """Self-Similarity Polynomial loss of Table 4, as its released code computes it.

    Args:
        margin: Negatives that score further below the positive do not count; its users set it.
        reduction: As in :class:`MatchingLoss`; the released code's is ``batch_mean``.
        loss_weight: Factor of the result.
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
        """(B,); see :func:`ssp`."""
        return ssp(anchors, self.margin)
