"""Base class of matching losses: directions, reduction, statistics and the plateau warning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.common.registry import log_warning

from .anchors import Anchors, both_directions

REDUCTIONS = ('sum', 'mean', 'batch_mean')


class MatchingLoss(nn.Module):
    """Compute a loss over the similarity matrix of B pairs, in both directions.

    After every call ``statistics`` holds, detached, ``delta_s`` (mean of Eq. 10 over anchors and
    directions) and ``triplet_share`` (share of the anchors whose loss covers all negatives): the
    curves of Figures 3d, 5 and 7.

    Args:
        margin: lambda.
        reduction: ``sum`` over anchors and directions (Eq. 2, 3, 13), ``mean`` over both, or
            ``batch_mean``: the sum over directions of the mean over anchors.
        loss_weight: Factor applied to the result.
        patience: Warn once after this many consecutive calls in which the hardest negatives are as
            similar as the positives. 0 disables the warning, and so does ``torch.compile``.

    Raises:
        ValueError: ``reduction`` is unknown.
    """

    # While the mean of |s(hardest) - s_p| is below this fraction of the margin, the summed hinge
    # of the hardest negatives is within this fraction of 2 * B * margin.
    plateau_width = 0.05
    plateau_advice = 'train with SelHNLoss, a warm-up or a lower learning rate'

    def __init__(
        self,
        margin: float = 0.2,
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise InputError(
                f'{type(self).__name__}: reduction={reduction!r}, expected one of {REDUCTIONS}'
            )
        self.margin = margin
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.patience = patience
        self.statistics: dict[str, Tensor] = {}
        self._calls = 0
        self._stuck: Tensor | None = None  # stays on the device, read every `patience` calls
        self._warned = False

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) of every anchor of one direction."""
        raise NotImplementedError

    def triplet_branch(self, anchors: Anchors) -> Tensor:
        """Return a mask (B,), True for anchors whose loss covers all their negatives."""
        return torch.zeros_like(anchors.positive, dtype=torch.bool)

    def forward(
        self,
        S: Tensor,
        positives: Tensor | None = None,
        *,
        captions: Tensor | None = None,
        offset: int = 0,
    ) -> Tensor:
        """Compute the loss of a batch, or of the rows of a batch that a process holds.

        With rows of a joint batch, it is the loss of these rows; see :meth:`joint_factor`.

        Args:
            S: (B, B), similarities of images (rows) and captions (columns), pairs on the diagonal;
                or rows (b, B) of such a matrix.
            positives: (b, B) bool, extra pairs that also match; see :func:`both_directions`.
            captions: (b, B), the rows of the transpose; see :func:`both_directions`.
            offset: Column of the pair of the first row; see :func:`both_directions`.

        Returns:
            A scalar, float32 or float64.
        """
        directions = both_directions(S, positives, captions, offset)
        self._watch(directions)
        return self.reduce([self.anchor_loss(anchors) for anchors in directions])

    def reduce(self, losses: list[Tensor]) -> Tensor:
        """Reduce the losses (B,) of the anchors of all directions to a scalar."""
        total = torch.stack([loss.sum() for loss in losses]).sum()
        if self.reduction != 'sum':
            total = total / len(losses[0])
        if self.reduction == 'mean':
            total = total / len(losses)
        return self.loss_weight * total

    def joint_factor(self, S: Tensor, processes: int) -> float:
        """Return the factor that makes the mean over processes the loss of the joint batch.

        ``DistributedDataParallel`` averages gradients over processes, so that each process
        multiplies the loss of its rows by this factor.

        Args:
            S: The rows (b, B) of this process.
            processes: Number of processes.
        """
        return processes if self.reduction == 'sum' else processes * S.shape[0] / S.shape[1]

    def _of_equal_scores(self, anchors: Anchors) -> float:
        """Compute the loss of a batch of this size with all scores equal to the mean positive."""
        equal = anchors.positive.mean().expand(anchors.negatives.shape).contiguous()
        directions = both_directions(equal, captions=equal)
        return float(self.reduce([self.anchor_loss(anchors) for anchors in directions]))

    @torch.no_grad()
    def _watch(self, directions: tuple[Anchors, ...]) -> None:
        delta_s = torch.cat([anchors.delta_s for anchors in directions])
        has_negatives = ~delta_s.isposinf()
        mean = delta_s.where(has_negatives, delta_s.new_zeros(())).sum()
        mean = mean / has_negatives.sum().clamp(min=1)
        share = torch.cat([self.triplet_branch(anchors) for anchors in directions]).float().mean()
        self.statistics = {'delta_s': mean, 'triplet_share': share}

        # a compiled graph would be compiled again for every count
        if self._warned or not self.patience or torch.compiler.is_compiling():
            return
        stuck = has_negatives.any() & (mean <= self.plateau_width * self.margin)
        before = 0 if self._stuck is None else self._stuck.to(stuck.device)
        self._stuck = (before + 1) * stuck
        self._calls += 1
        if self._calls % self.patience == 0 and int(self._stuck) >= self.patience:
            self._warned = True
            log_warning(
                f'{type(self).__name__} (reduction={self.reduction!r}): for {int(self._stuck)} '
                'iterations the hardest negatives have scored like the positives, where this loss '
                f'is {self._of_equal_scores(directions[0]):.4g} and the gradients of hard '
                f'negatives vanish; {self.plateau_advice}',
            )
