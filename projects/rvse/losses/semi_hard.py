"""Losses that spare negatives which score above the positive."""

from __future__ import annotations

import torch
from torch import Tensor

from projects.common.registry import MODELS

from .anchors import Anchors, hinge
from .base import MatchingLoss
from .triplet import hard_negative


def semi_hard_negative(anchors: Anchors, margin: float) -> Tensor:
    """The hinge of the hardest negative with s_n < s_p (Eq. 13, 14): (B,).

    An anchor without such a negative has loss 0; the paper leaves it undefined.
    """
    above = anchors.negatives >= anchors.positive[:, None]  # a NaN is not: it stays one
    negative = anchors.negatives.masked_fill(above, -torch.inf).max(dim=1).values
    return hinge(anchors, negative, margin)


def selectively_contrastive(anchors: Anchors, margin: float) -> Tensor:
    """The hinge where the hardest negative scores below the positive, else its score (Eq. 15)."""
    hardest = anchors.hardest
    # a NaN is in the hinge, whichever of the two scores it is
    return torch.where(hardest >= anchors.positive, hardest, hard_negative(anchors, margin))


@MODELS.register_module()
class SemiHardNegativeLoss(MatchingLoss):
    """SHN of Tables 3 and 10 (Eq. 13, 14)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """(B,); see :func:`semi_hard_negative`."""
        return semi_hard_negative(anchors, self.margin)


@MODELS.register_module()
class SCTLoss(MatchingLoss):
    """Selectively Contrastive Triplet of Tables 3 and 10 (Eq. 15, 16)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """(B,); see :func:`selectively_contrastive`."""
        return selectively_contrastive(anchors, self.margin)
