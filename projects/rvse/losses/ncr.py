"""NCR: the loss of the Noisy Correspondence Rectifier and its loss-based split of the pairs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.registry import MODELS

from .anchors import Anchors, both_directions
from .base import MatchingLoss
from .triplet import hard_negative, triplet

if TYPE_CHECKING:
    import numpy as np

SPLITS = ('mean', 'hardest')


def soft_margin(labels: Tensor, margin: float, base: float = 10.0) -> Tensor:
    """Compute margin (base^y - 1) / (base - 1): 0 for a mismatched pair, the margin for a match."""
    return margin * (base**labels - 1) / (base - 1)


@MODELS.register_module()
class NCRLoss(MatchingLoss):
    """Compute the hard-negative loss with a margin set by soft correspondence labels (Table 4).

    The networks warm up with ``ITMTripletLoss(reduction='batch_mean')``. Then each network splits
    the pairs for the other by the :func:`clean_probability` of their :meth:`pair_losses`
    (:class:`~projects.rvse.engine.CoTrainLoop`).

    Args:
        margin: Margin of a matching pair.
        base: See :func:`soft_margin`.
        split: Loss of a pair when the pairs are split: the ``mean`` hinge over all negatives, as
            released, or the hinge of the ``hardest`` one.
        reduction: See :class:`MatchingLoss`.
        loss_weight: Factor applied to the result.
        patience: See :class:`MatchingLoss`.

    Raises:
        ValueError: ``split`` is unknown.
    """

    def __init__(
        self,
        margin: float = 0.2,
        base: float = 10.0,
        split: str = 'mean',
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)
        if split not in SPLITS:
            raise InputError(f'NCRLoss: split={split!r}, expected one of {SPLITS}')
        self.base = base
        self.split = split

    def forward(
        self,
        S: Tensor,
        positives: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        captions: Tensor | None = None,
        offset: int = 0,
    ) -> Tensor:
        """Compute the loss of a batch.

        Args:
            S: See :meth:`MatchingLoss.forward`.
            positives: See :meth:`MatchingLoss.forward`.
            labels: (b,), y in [0, 1], how well each pair corresponds. None means 1 for all.
            captions: See :meth:`MatchingLoss.forward`.
            offset: See :meth:`MatchingLoss.forward`.
        """
        directions = both_directions(S, positives, captions, offset)
        self._watch(directions)
        if labels is None:
            labels = torch.ones_like(directions[0].positive)
        margin = soft_margin(labels, self.margin, self.base)
        return self.reduce([hard_negative(anchors, margin) for anchors in directions])

    def anchor_loss(self, anchors: Anchors) -> Tensor:
        """Compute the loss (B,) for pairs with label 1."""
        return hard_negative(anchors, self.margin)

    @torch.no_grad()
    def pair_losses(self, S: Tensor, positives: Tensor | None = None) -> Tensor:
        """Compute the loss (B,) used to split pairs: both directions, with label 1."""
        directions = both_directions(S, positives)
        if self.split == 'hardest':
            image, caption = directions
            return hard_negative(image, self.margin) + hard_negative(caption, self.margin)
        return self._mean_hinges(directions)

    @torch.no_grad()
    def predict_labels(
        self,
        S: Tensor,
        positives: Tensor | None = None,
        *,
        captions: Tensor | None = None,
        offset: int = 0,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Predict how well each pair of a batch corresponds, as the released code does.

        The remaining margin of a pair (margin minus the mean of its hinges over negatives and
        directions) is divided by the mean of the highest tenth of the batch.

        Args:
            S: See :meth:`MatchingLoss.forward`.
            positives: See :meth:`MatchingLoss.forward`.
            captions: See :meth:`MatchingLoss.forward`.
            offset: See :meth:`MatchingLoss.forward`.
            gather: Returns the remaining margins (B,) of the whole batch from those (b,) of this
                process. None if they are the same.

        Returns:
            (b,) in [0, 1].
        """
        mean = self._mean_hinges(both_directions(S, positives, captions, offset)) / 2
        left = (self.margin - mean).clamp(0, self.margin)
        of_batch = gather(left) if gather else left
        best = of_batch.topk(len(of_batch) // 10 + 1).values.mean()
        # no pair of the batch has any margin left
        return torch.where(best == 0, torch.zeros_like(left), left / best).clamp(0, 1)

    def _mean_hinges(self, directions: tuple[Anchors, Anchors]) -> Tensor:
        """Sum both directions' mean hinge over the batch (B,); the positive counts as 0."""
        image, caption = (triplet(anchors, self.margin) for anchors in directions)
        return (image + caption) / directions[0].batch_size


def clean_probability(
    losses: np.ndarray, seed: int = 0, max_iter: int = 10, tol: float = 1e-2
) -> np.ndarray:
    """Compute the probability that each pair matches from the losses of all training pairs.

    A mixture of two Gaussians is fitted to the losses, scaled to [0, 1]. The probability that a
    pair matches is that of the component with the lower mean. The default limits are those of the
    released code.

    Args:
        losses: (N,).
        seed: Seed for the initial means of the mixture.
        max_iter: Maximum number of steps of the fit.
        tol: The fit stops when a step gains less than this.

    Returns:
        (N,) in [0, 1].
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    losses = np.asarray(losses, dtype=np.float64).reshape(-1, 1)
    spread = np.ptp(losses)
    losses = (losses - losses.min()) / (spread or 1.0)
    mixture = GaussianMixture(2, max_iter=max_iter, tol=tol, reg_covar=5e-4, random_state=seed)
    with warnings.catch_warnings():  # the low number of steps is intended
        warnings.simplefilter('ignore', ConvergenceWarning)
        mixture.fit(losses)
    return mixture.predict_proba(losses)[:, mixture.means_.argmin()]


def clean_pairs(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Select the pairs that count as matching.

    Args:
        probability: (N,), from :func:`clean_probability`.
        threshold: Pairs above it match. If all pairs are above it, the least probable hundredth
            does not match, as in the released code.

    Returns:
        (N,) bool.
    """
    if probability.min() > threshold:
        import numpy as np

        threshold = np.sort(probability)[len(probability) // 100]
    return probability > threshold
