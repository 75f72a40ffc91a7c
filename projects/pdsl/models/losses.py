"""The losses of Eq. 2 to 8: formulas as plain functions, then the modules that a config names."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor

from ..cues.roi_targets import threshold_in_roi
from .pseudo_labels import PseudoLabels
from .reductions import ReducedLoss
from .reductions import reduce_images as reduce_images

CLAMP = 1e-6  # how near to 0 and 1 an image-level score may come
_FROZEN_AFTER = 100  # iterations at the clamp until it is reported


def wsddn_scores(classification: Tensor, detection: Tensor) -> Tensor:
    """Compute S^0: softmax over classes times softmax over the proposals of one image.

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
    """Compute y (n_c,) of section 3.2 from S^0 (n, n_c), kept off 0 and 1 by ``eps``."""
    return scores.sum(0).clamp(eps, 1 - eps)


def mil_loss(image_scores: Tensor, present: Tensor) -> Tensor:
    """Compute Eq. 2 before the sum over classes.

    Args:
        image_scores: (n_c,), y.
        present: (n_c,), t, 0 or 1.

    Returns:
        (n_c,).
    """
    # torch's own is refused under autocast; y is off 0 and 1 already
    return -(present * image_scores.log() + (1 - present) * torch.log1p(-image_scores))


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Compute the first term of Eq. 3 for each proposal (n,), given logits (n, n_c + 1)."""
    return weights * F.cross_entropy(logits, labels, reduction='none')


def regression_loss(
    deltas: Tensor, targets: Tensor, weights: Tensor | None = None, beta: float = 1.0
) -> Tensor:
    """Compute the second term of Eq. 3 for each foreground proposal.

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
    """Compute the cross-entropy of Eq. 5 for each foreground proposal, summed over its pixels.

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
    """Compute a (m,) of Eq. 7 from mask probabilities (m, h, w): between their mean and maximum."""
    size = probs.shape[1] * probs.shape[2]
    return ((tau * probs).flatten(1).logsumexp(1) - math.log(size)) / tau


def correlation_loss(activation: Tensor, target: Tensor) -> Tensor:
    """Compute the distance in Eq. 8 for each proposal (m,), without gradient for ``target``."""
    return (activation - target.detach() + 1e-6).abs()  # the offset of torch's pairwise distance


# -------------------------------------------------------------------------------------- modules


@MODELS.register_module()
class MILLoss(ReducedLoss):
    """Compute L_OM, the cross-entropy of the image-level scores (Eq. 2).

    With 'mean', the loss of an image is averaged over classes. One warning is logged if the scores
    of wrong classes stay for 100 iterations at their limits, where they have no gradient.

    Args:
        reduction: See :func:`reduce_images`; the released code has 'batch_mean', the paper 'sum'.
        loss_weight: Factor of the result.
    """

    _frozen: Tensor | int = 0  # iterations in a row, on the device
    _at_most = 0  # iterations that there may be, without asking the device
    _warned = False

    def forward(self, scores: Sequence[Tensor], tags: Sequence[Tensor]) -> Tensor:
        """Compute the loss of a batch.

        Args:
            scores: S^0 (n, n_c) of each image. An image without proposals has a loss of 0.
            tags: Classes (k,) that are in each image.
        """
        sums, clamped = [], []
        for each, present in zip(scores, tags):
            if not len(each):
                sums.append(each.sum())
                continue
            y = image_level_scores(each)
            of_class = mil_loss(y, torch.zeros_like(y).scatter_(0, present, 1))
            sums.append(of_class.sum())
            total = each.detach().sum(0)
            at_clamp = (total <= CLAMP) | (total >= 1 - CLAMP)
            clamped.append(of_class.detach() * at_clamp)
        self._watch(sums, clamped)
        return self.reduce(sums, [each.shape[1] for each in scores])

    def _watch(self, sums: Sequence[Tensor], clamped: Sequence[Tensor]) -> None:
        """Warn if nearly all of the loss has been at the clamp for many iterations."""
        if self._warned:
            return
        total = torch.stack([each.detach() for each in sums]).sum()
        stuck = sum((each.sum() for each in clamped), torch.zeros_like(total))
        learns = (stuck < 0.99 * total) & (total > 1e-3)
        # at the clamp a wrong class adds 13.8 and a right one 1e-6; only wrong ones count
        wrong = sum(((each > 1).any() for each in clamped), torch.zeros_like(learns)) > 0
        self._frozen = torch.where(learns, 0, self._frozen + wrong.long())
        self._at_most += 1
        if self._at_most >= _FROZEN_AFTER:  # the host waits for the device only if it may be time
            self._at_most = int(self._frozen)
        if self._at_most < _FROZEN_AFTER:
            return
        self._warned = True
        print_log(
            f'loss_mil has had next to no gradient for {_FROZEN_AFTER} iterations: the '
            f'image-level scores of the wrong classes are at their limits of {CLAMP} and 1 - '
            f'{CLAMP}, where they are clamped. It will hardly recover: start again with a '
            'lower learning rate, a warm-up, gradient clipping (optim_wrapper.clip_grad), '
            'more proposals for each image, or a pretrained backbone.',
            logger='current',
            level=logging.WARNING,
        )


@MODELS.register_module()
class RefinementLoss(ReducedLoss):
    """Compute L_OR^r, the losses of one refinement head (Eq. 3).

    With 'mean', the classification loss of an image is averaged over the proposals whose weight is
    not 0, and the box loss over all proposals.

    Args:
        reduction: See :func:`reduce_images`; the released code has 'batch_mean', the paper 'sum'.
        smooth_l1_beta: Error from which the box loss is linear; 0, L1, in the released code.
        weighted_regression: Whether the box loss is weighted by y; not in the released ResNet-101.
        loss_weight: Factor of the results.
    """

    def __init__(
        self,
        reduction: str = 'mean',
        smooth_l1_beta: float = 1.0,
        weighted_regression: bool = True,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.smooth_l1_beta = smooth_l1_beta
        self.weighted_regression = weighted_regression

    def forward(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor] | None,
        labels: Sequence[PseudoLabels],
        targets: Sequence[Tensor] | None,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            logits: (n, n_c + 1) of each image; the last class is the background.
            deltas: (n, 4 n_c) of each image; None for a head that does not move boxes.
            labels: Labels that the head before gives to each image.
            targets: Deltas (m, 4) from each image's foreground proposals to their pseudo ground
                truth; None as for ``deltas``.

        Returns:
            Scalars: ``cls``, and ``reg`` for a head that moves boxes.
        """
        sums, counts = [], []
        for scores, each in zip(logits, labels):
            given = each.assignment
            sums.append(classification_loss(scores, given.labels, given.weights).sum())
            counts.append((given.weights > 1e-12).sum())
        losses = {'cls': self.reduce(sums, counts)}
        if deltas is not None and targets is not None:
            sums = []
            for moves, target, each in zip(deltas, targets, labels):
                moves = moves.unflatten(1, (-1, 4))[each.foreground, each.foreground_labels]
                weights = each.foreground_weights if self.weighted_regression else None
                sums.append(regression_loss(moves, target, weights, self.smooth_l1_beta).sum())
            losses['reg'] = self.reduce(sums, [len(moves) for moves in deltas])
        return losses


@MODELS.register_module()
class PseudoMaskLoss(ReducedLoss):
    """Compute the terms of L_IS: M^0 learns from the cue, M^m from M^(m-1) (Eq. 5).

    Only foreground proposals have a loss. With 'mean', it is averaged over them and their pixels.

    Args:
        reduction: See :func:`reduce_images`; the released code has 'batch_mean', the paper 'sum'.
        soft_targets: Whether M^m learns the probabilities of M^(m-1); in the released code it
            learns those probabilities thresholded at 0.5.
        weighted: Whether the terms of M^1 to M^n_m are weighted by y; False in the released code.
        loss_weight: Factor of the results.
    """

    def __init__(
        self,
        reduction: str = 'mean',
        soft_targets: bool = True,
        weighted: bool = True,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.soft_targets = soft_targets
        self.weighted = weighted

    def forward(
        self, logits: Sequence[Tensor], cue: Tensor, labels: Sequence[PseudoLabels]
    ) -> dict[int, Tensor]:
        """Compute the losses of a batch.

        Args:
            logits: M^0 to M^n_m, (m, s, s) each: the batch's foreground proposals in their classes.
            cue: M-hat^0 (m, s, s), 0 or 1, of the same proposals.
            labels: Labels that the last refinement head gives to each image.

        Returns:
            A scalar for each m, from 0 to n_m.
        """
        sizes = [len(each.foreground) for each in labels]
        weights = torch.cat([each.foreground_weights for each in labels]) if self.weighted else None
        losses, target = {}, cue
        for m, each in enumerate(logits):
            terms = mask_loss(each, target, weights if m else None)
            sums = [part.sum() for part in terms.split(sizes)]
            losses[m] = self.reduce(sums, [size * each.shape[1:].numel() for size in sizes])
            target = each.detach().sigmoid()
            if not self.soft_targets:
                target = threshold_in_roi(target)
        return losses


@MODELS.register_module()
class InstanceCorrelationLoss(ReducedLoss):
    """Compute the terms of L_CL: a mask is as active as its proposal's score says (Eq. 6 to 8).

    Eq. 8 is a mean over an image's proposals, so this loss has no reduction 'sum'.

    Args:
        target: The score that the activation of a mask should have: 'proposal', the proposal's own
            score, or 'pseudo_gt', that of its pseudo ground truth, as in the released code.
        average: Divide by the number of 'foreground' proposals, as the mask losses do, or of all
            'proposals', as in the paper, beside sums of the mask losses.
        agnostic: Whether there is a term for M^0 as well, as in the released code.
        reduction: 'mean', or 'batch_mean' as in the released code; see :func:`reduce_images`.
        loss_weight: Factor of the results.

    Raises:
        ValueError: ``target``, ``average`` or ``reduction`` is unknown.
    """

    reductions = ('mean', 'batch_mean')

    def __init__(
        self,
        target: str = 'proposal',
        average: str = 'foreground',
        agnostic: bool = False,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self._check('target', target, ('proposal', 'pseudo_gt'))
        self._check('average', average, ('foreground', 'proposals'))
        self.target = target
        self.average = average
        self.agnostic = agnostic

    def forward(
        self, logits: Sequence[Tensor], labels: Sequence[PseudoLabels]
    ) -> dict[int, Tensor]:
        """Compute the losses of a batch.

        Args:
            logits: M^0 to M^n_m, (m, s, s) each: the batch's foreground proposals in their classes.
            labels: Labels that the last refinement head gives to each image.

        Returns:
            A scalar for each m, from 1, or 0 with ``agnostic``, to n_m.
        """
        if self.target == 'proposal':
            scores = torch.cat([each.foreground_scores for each in labels])
        else:
            scores = torch.cat([each.matched_scores for each in labels])
        sizes = [len(each.foreground) for each in labels]
        counts = sizes
        if self.average == 'proposals':
            counts = [len(each.predictions.proposals) for each in labels]
        losses = {}
        for m, each in enumerate(logits):
            if m or self.agnostic:
                distance = correlation_loss(instance_activation(each.sigmoid()), scores)
                losses[m] = self.reduce([part.sum() for part in distance.split(sizes)], counts)
        return losses
