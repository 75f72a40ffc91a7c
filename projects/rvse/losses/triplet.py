"""Triplet losses over all negatives and over the hardest one."""

from __future__ import annotations

import torch
from torch import Tensor

from projects.common.registry import MODELS

from .anchors import Anchors, hinge
from .base import MatchingLoss


def triplet(anchors: Anchors, margin: float) -> Tensor:
    """Compute sum_j [s_n - s_p + margin]_+ (B,) over all negatives (inner sum of Eq. 2)."""
    return hinge(anchors, anchors.negatives, margin).sum(dim=1)


def hard_negative(anchors: Anchors, margin: float | Tensor) -> Tensor:
    """Compute [s(hardest) - s_p + margin]_+ (B,) of each anchor (Eq. 4, 11, 16)."""
    return hinge(anchors, anchors.hardest, margin)


@MODELS.register_module()
class ITMTripletLoss(MatchingLoss):
    """Compute L_Triplet over all negatives (Eq. 2)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor; see :func:`triplet`."""
        return triplet(anchors, self.margin)

    def triplet_branch(self, anchors: Anchors) -> Tensor:
        """Return a mask (B,) that is True everywhere."""
        return torch.ones_like(anchors.positive, dtype=torch.bool)


@MODELS.register_module()
class HardNegativeLoss(MatchingLoss):
    """Compute L_T-HN over the hardest negative (Eq. 3)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor; see :func:`hard_negative`."""
        return hard_negative(anchors, self.margin)
