"""Losses that treat negatives above the positive separately."""

from __future__ import annotations

import torch
from torch import Tensor

from projects.common.registry import MODELS

from .anchors import Anchors, hinge
from .base import MatchingLoss
from .triplet import hard_negative


def semi_hard_negative(anchors: Anchors, margin: float) -> Tensor:
    """Compute the hinge (B,) of the hardest negative with s_n < s_p (Eq. 13, 14).

    An anchor without such a negative has loss 0; the paper leaves it undefined.
    """
    above = anchors.negatives >= anchors.positive[:, None]  # False for NaN, so that it propagates
    negative = anchors.negatives.masked_fill(above, -torch.inf).max(dim=1).values
    return hinge(anchors, negative, margin)


def selectively_contrastive(anchors: Anchors, margin: float) -> Tensor:
    """Compute the hinge, or the hardest score if it is not below the positive's (Eq. 15)."""
    hardest = anchors.hardest
    # the comparison is False for NaN, and the hinge propagates it
    return torch.where(hardest >= anchors.positive, hardest, hard_negative(anchors, margin))


@MODELS.register_module()
class SemiHardNegativeLoss(MatchingLoss):
    """Compute SHN of Tables 3 and 10 (Eq. 13, 14)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor; see :func:`semi_hard_negative`."""
        return semi_hard_negative(anchors, self.margin)


@MODELS.register_module()
class SCTLoss(MatchingLoss):
    """Compute the Selectively Contrastive Triplet loss of Tables 3 and 10 (Eq. 15, 16)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor; see :func:`selectively_contrastive`."""
        return selectively_contrastive(anchors, self.margin)
