"""Triplet losses of all negatives and of the hardest one."""

from __future__ import annotations

import torch
from torch import Tensor

from projects.common.registry import MODELS

from .anchors import Anchors, hinge
from .base import MatchingLoss


def triplet(anchors: Anchors, margin: float) -> Tensor:
    """sum_j [s_n - s_p + margin]_+ over all negatives of each anchor (inner sum of Eq. 2): (B,)."""
    return hinge(anchors, anchors.negatives, margin).sum(dim=1)


def hard_negative(anchors: Anchors, margin: float | Tensor) -> Tensor:
    """[s(hardest) - s_p + margin]_+ of each anchor (Eq. 4, 11, 16): (B,)."""
    return hinge(anchors, anchors.hardest, margin)


@MODELS.register_module()
class ITMTripletLoss(MatchingLoss):
    """L_Triplet: every negative counts (Eq. 2)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """(B,); see :func:`triplet`."""
        return triplet(anchors, self.margin)

    def triplet_branch(self, anchors: Anchors) -> Tensor:
        """(B,) bool, True everywhere."""
        return torch.ones_like(anchors.positive, dtype=torch.bool)


@MODELS.register_module()
class HardNegativeLoss(MatchingLoss):
    """L_T-HN: only the hardest negative counts (Eq. 3)."""

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """(B,); see :func:`hard_negative`."""
        return hard_negative(anchors, self.margin)
