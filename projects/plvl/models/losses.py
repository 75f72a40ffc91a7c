"""Losses that mmdet does not provide in this form, and the mask losses shared by the heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.speed.transfer import to_device


def center_focal_loss(
    prob: Tensor, target: Tensor, alpha: float = 2.0, beta: float = 4.0, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Compute CornerNet's focal loss on a center heat map (L_focal(P^, P) of Eq. 6).

    Args:
        prob: Predicted probabilities in (0, 1), any shape.
        target: Gaussian heat map of the same shape. Cells with value 1 are positive.
        alpha: Exponent of the error.
        beta: Exponent that reduces the penalty near positives.
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
    """Average :func:`center_focal_loss` over the positives of the batch in all processes.

    Args:
        alpha: See :func:`center_focal_loss`.
        beta: See :func:`center_focal_loss`.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 4.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta

    def forward(self, prob: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of probabilities and labels (B, h, w) over all processes' positives."""
        loss, positives = center_focal_loss(prob, target, self.alpha, self.beta)
        return loss / reduce_mean(positives.float()).clamp(min=1 / get_world_size())


@MODELS.register_module()
class DoubleSigmoidFocalLoss(nn.Module):
    """Reproduce the released mask loss, a focal loss whose cross-entropy has an extra sigmoid.

    The cross-entropy takes probabilities for logits, so it never sees a pixel below 0.5; the focal
    factor is correct. Use this loss to reproduce the released training; ``mmdet.FocalLoss`` is the
    loss that the paper names.

    Args:
        alpha: Weight of the positives.
        gamma: Exponent of the error.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the mean loss over the pixels of logits and targets of the same shape."""
        prob = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(prob, target, reduction='none')
        error = target * (1 - prob) + (1 - target) * prob
        weight = target * self.alpha + (1 - target) * (1 - self.alpha)
        return (weight * error**self.gamma * entropy).mean()


def mask_losses(
    logits: Tensor,
    masks: Tensor,
    with_mask: Tensor | None,
    loss_mask: Callable[[Tensor, Tensor], Tensor],
    loss_dice: Callable[[Tensor, Tensor], Tensor],
    weight: float = 1.0,
) -> dict[str, Tensor]:
    """Compute L_seg of Eq. 6 over the samples whose mask is known.

    Args:
        logits: (B, 1, h, w).
        masks: (B, H, W), 0 or 1; resized to h x w if the head predicts a coarser mask.
        with_mask: (B,) bool, False for samples whose mask is unknown; None if all are known. The
            host reads it, so it had better lie there.
        loss_mask: Pixel loss of the logits.
        loss_dice: Overlap loss of the logits.
        weight: lambda_seg of Eq. 7.

    Returns:
        ``loss_mask`` and ``loss_dice``, which are 0 if no mask is known.
    """
    logits, masks = logits[:, 0], masks.to(logits.dtype)
    if masks.shape[1:] != logits.shape[1:]:
        resized = F.interpolate(masks[:, None], logits.shape[1:], mode='area')
        masks = (resized[:, 0] >= 0.5).to(logits.dtype)
    if with_mask is not None:
        known = to_device(with_mask.nonzero()[:, 0], logits.device)
        if not len(known):  # keep every parameter in the graph for DDP
            zero = logits.sum() * 0
            return {'loss_mask': zero, 'loss_dice': zero}
        logits, masks = logits[known], masks[known]
    return {
        'loss_mask': weight * loss_mask(logits, masks),
        'loss_dice': weight * loss_dice(logits, masks),
    }
