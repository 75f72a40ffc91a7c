"""Losses that mmdet does not have in this form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor, nn


def center_focal_loss(
    prob: Tensor, target: Tensor, alpha: float = 2.0, beta: float = 4.0, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """CornerNet's focal loss on a centre heat map (L_focal(P^, P) of Eq. 6).

    Args:
        prob: Predicted probabilities in (0, 1), any shape.
        target: Gaussian heat map of the same shape; a cell is positive where it is 1.
        alpha: Exponent of the error.
        beta: Exponent that spares cells near a positive.
        eps: Added to ``1 - prob`` inside the logarithm.

    Returns:
        The sum over all cells and the number of positives, both scalars.
    """
    positive = target.eq(1)
    loss = torch.where(
        positive,
        (1 - prob) ** alpha * prob.log(),
        (1 - target) ** beta * prob**alpha * (1 - prob + eps).log(),
    )
    return -loss.sum(), positive.sum()


@MODELS.register_module()
class CenterFocalLoss(nn.Module):
    """:func:`center_focal_loss` over the positives of the whole batch, of all processes.

    Args:
        alpha: See :func:`center_focal_loss`.
        beta: See there.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 4.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta

    def forward(self, prob: Tensor, target: Tensor) -> Tensor:
        loss, positives = center_focal_loss(prob, target, self.alpha, self.beta)
        return loss / reduce_mean(positives.float()).clamp(min=1 / get_world_size())


@MODELS.register_module()
class DoubleSigmoidFocalLoss(nn.Module):
    """The released code's mask loss: a focal loss whose cross-entropy has one sigmoid too many.

    The cross-entropy takes probabilities for logits, so it never sees a pixel below 0.5; the
    focal factor is right. It is here to reproduce the released training; ``mmdet.FocalLoss`` is
    the loss that the paper names.

    Args:
        alpha: Weight of the positives.
        gamma: Exponent of the error.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        prob = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(prob, target, reduction='none')
        error = target * (1 - prob) + (1 - target) * prob
        weight = target * self.alpha + (1 - target) * (1 - self.alpha)
        return (weight * error**self.gamma * entropy).mean()
