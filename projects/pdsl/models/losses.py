"""The losses of Eq. 2, 3, 5 and 8 as plain functions, unreduced, and how they are reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.common.errors import InputError

CLAMP = 1e-6  # how near to 0 and 1 an image-level score may come
REDUCTIONS = ('sum', 'mean', 'batch_mean')


def wsddn_scores(classification: Tensor, detection: Tensor) -> Tensor:
    """S^0: softmax over classes times softmax over the proposals of one image.

    With a single class the softmax over classes would be constant; a second logit of 0 is added.

    Args:
        classification: (n, n_c), logits.
        detection: (n, n_c), logits.

    Returns:
        (n, n_c).
    """
    count = classification.shape[1]
    if count == 1:
        classification = F.pad(classification, (0, 1))
    return classification.softmax(1)[:, :count] * detection.softmax(0)


def image_level_scores(scores: Tensor, eps: float = CLAMP) -> Tensor:
    """y of section 3.2 for S^0 (n, n_c) of one image: (n_c,), kept off 0 and 1 by ``eps``."""
    return scores.sum(0).clamp(eps, 1 - eps)


def mil_loss(image_scores: Tensor, present: Tensor) -> Tensor:
    """Eq. 2 before the sum over classes.

    Args:
        image_scores: (n_c,), y.
        present: (n_c,), t, 0 or 1.

    Returns:
        (n_c,).
    """
    # torch's own is refused under autocast; y is off 0 and 1 already
    return -(present * image_scores.log() + (1 - present) * torch.log1p(-image_scores))


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """First term of Eq. 3 of each proposal (n,), for logits (n, n_c + 1)."""
    return weights * F.cross_entropy(logits, labels, reduction='none')


def regression_loss(
    deltas: Tensor, targets: Tensor, weights: Tensor | None = None, beta: float = 1.0
) -> Tensor:
    """Second term of Eq. 3 of each foreground proposal.

    Args:
        deltas: (m, 4), of the proposal's class.
        targets: (m, 4).
        weights: (m,); None for 1.
        beta: Where the smooth L1 loss becomes linear; 0 for L1.

    Returns:
        (m,).
    """
    loss = F.smooth_l1_loss(deltas, targets, reduction='none', beta=beta).sum(1)
    return loss if weights is None else weights * loss


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """BCE of Eq. 5 of each foreground proposal, summed over its pixels.

    Args:
        logits: (m, h, w), of the proposal's class.
        targets: (m, h, w), probabilities or 0 and 1.
        weights: (m,); None for 1.

    Returns:
        (m,).
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction='none').sum((1, 2))
    return loss if weights is None else weights * loss


def instance_activation(probs: Tensor, tau: float = 5.0) -> Tensor:
    """a of Eq. 7 for mask probabilities (m, h, w): (m,), between their mean and their maximum."""
    size = probs.shape[1] * probs.shape[2]
    return ((tau * probs).flatten(1).logsumexp(1) - math.log(size)) / tau


def correlation_loss(activation: Tensor, target: Tensor) -> Tensor:
    """The distance in Eq. 8 of each proposal (m,); no gradient reaches the detection's score."""
    return (activation - target.detach() + 1e-6).abs()  # the offset of torch's pairwise distance


def reduce_images(
    sums: Sequence[Tensor], counts: Sequence[float | Tensor], reduction: str
) -> Tensor:
    """One loss of the images' sums.

    Args:
        sums: Of each image, the sum of a loss.
        counts: Of each image, what it would be divided by for a mean; 0 makes it 0.
        reduction: 'mean': the images' means, averaged over images. 'sum', the paper's: the
            images' sums, averaged over images. 'batch_mean', as released: the mean over the whole
            batch. All are one in the number of images; the first two make gradient accumulation
            over images, and processes of an image each, equal to a batch of them.
    """
    total = torch.stack(list(sums))
    if reduction == 'sum':
        return total.mean()
    over = total.new_tensor([float(count) for count in counts])
    if reduction == 'mean':
        return (total / over.clamp(min=1)).mean()
    if reduction == 'batch_mean':
        return total.sum() / over.sum().clamp(min=1)
    raise InputError(f'reduction: {reduction!r}; expected one of {REDUCTIONS}')
