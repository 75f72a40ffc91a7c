"""SelHN: mine the hardest negative only where its gradient does not vanish."""

from __future__ import annotations

import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.registry import MODELS

from .anchors import Anchors
from .base import MatchingLoss
from .triplet import hard_negative, triplet

NORMALIZERS = ('batch', 'negatives')


def selhn(anchors: Anchors, margin: float, eps: float, normalizer: str = 'batch') -> Tensor:
    """Compute L_T-SelHN (B,) of every anchor (Eq. 9 to 12).

    Args:
        anchors: One direction.
        margin: lambda.
        eps: The hardest negative is mined if delta s > eps, but not at delta s = eps.
        normalizer: Divisor of the sum over all negatives: B (``batch``, Eq. 12) or the number of
            negatives (``negatives``, the released code).
    """
    count = anchors.num_negatives.clamp(min=1) if normalizer == 'negatives' else anchors.batch_size
    return torch.where(
        anchors.delta_s > eps,
        hard_negative(anchors, margin),
        triplet(anchors, margin) / count,
    )


@MODELS.register_module()
class SelHNLoss(MatchingLoss):
    """Compute the triplet loss with Selectively Hard Negative mining (Eq. 9 to 12).

    The released code differs from the paper in the normaliser (``negatives``), and uses the hardest
    negative at exactly delta s = eps.

    Args:
        margin: lambda.
        eps: Threshold on delta s; 0.01 in all experiments, swept in Figure 6.
        normalizer: See :func:`selhn`.
        reduction: See :class:`MatchingLoss`. The paper does not specify it; the released code uses
            ``mean``.
        loss_weight: Factor applied to the result.
        patience: See :class:`MatchingLoss`.

    Raises:
        ValueError: ``normalizer`` or ``reduction`` is unknown.

    Example:
        >>> loss = SelHNLoss(margin=0.2, eps=0.01)(images @ captions.T)
    """

    def __init__(
        self,
        margin: float = 0.2,
        eps: float = 0.01,
        normalizer: str = 'batch',
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)
        if normalizer not in NORMALIZERS:
            raise InputError(f'SelHNLoss: normalizer={normalizer!r}, expected one of {NORMALIZERS}')
        self.eps = eps
        self.normalizer = normalizer

    plateau_advice = 'a warm-up or a lower learning rate may help'

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor; see :func:`selhn`."""
        return selhn(anchors, self.margin, self.eps, self.normalizer)

    def triplet_branch(self, anchors: Anchors) -> Tensor:
        """Return the mask (B,) of delta s <= eps, where Eq. 9 uses all negatives."""
        return anchors.delta_s <= self.eps
