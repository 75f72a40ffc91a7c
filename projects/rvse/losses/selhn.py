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
    """L_T-SelHN of every anchor (Eq. 9 to 12): (B,).

    Args:
        anchors: One direction.
        margin: lambda.
        eps: The hardest negative is mined where delta s > eps; at delta s = eps it is not.
        normalizer: The sum over all negatives is divided by B (``batch``, Eq. 12) or by their
            number (``negatives``, the released code).
    """
    count = anchors.num_negatives.clamp(min=1) if normalizer == 'negatives' else len(anchors[0])
    return torch.where(
        anchors.delta_s > eps,
        hard_negative(anchors, margin),
        triplet(anchors, margin) / count,
    )


@MODELS.register_module()
class SelHNLoss(MatchingLoss):
    """Triplet loss with Selectively Hard Negative mining (Eq. 9 to 12).

    The released code differs from the paper in the normaliser (``negatives``), and takes the
    hardest negative at delta s = eps exactly.

    Args:
        margin: lambda.
        eps: Threshold on delta s; 0.01 in all experiments, swept in Figure 6.
        normalizer: See :func:`selhn`.
        reduction: As in :class:`MatchingLoss`; the paper names none, ``mean`` is the released
            code's.
        loss_weight: Factor of the result.
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
        """(B,); see :func:`selhn`."""
        return selhn(anchors, self.margin, self.eps, self.normalizer)

    def triplet_branch(self, anchors: Anchors) -> Tensor:
        """(B,) bool, delta s <= eps: Eq. 9 takes all negatives."""
        return anchors.delta_s <= self.eps
