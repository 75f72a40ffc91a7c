"""NCR: the loss of the Noisy Correspondence Rectifier, and its split of pairs by their losses."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from .anchors import both_directions
from .base import MatchingLoss
from .triplet import hard_negative


def soft_margin(labels: Tensor, margin: float, base: float = 10.0) -> Tensor:
    """margin (base^y - 1) / (base - 1): 0 for a mismatched pair, the margin for a matched one."""
    return margin * (base**labels - 1) / (base - 1)


@MODELS.register_module()
class NCRLoss(MatchingLoss):
    """Hard negatives with a margin that a pair's soft correspondence label sets (Table 4).

    NCR warms up with ``ITMTripletLoss(reduction='batch_mean')``; then each of two networks splits
    the pairs for the other by :func:`clean_probability` of their :meth:`pair_losses`.

    Args:
        margin: Of a pair that matches.
        base: See :func:`soft_margin`.
        reduction: As in :class:`MatchingLoss`.
        loss_weight: Factor of the result.
        patience: See :class:`MatchingLoss`.
    """

    def __init__(
        self,
        margin: float = 0.2,
        base: float = 10.0,
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        patience: int = 500,
    ) -> None:
        super().__init__(margin, reduction, loss_weight, patience)
        self.base = base

    def forward(
        self, S: Tensor, positives: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            S: See :meth:`MatchingLoss.forward`.
            positives: See there.
            labels: (B,), y in [0, 1], how well a pair corresponds; None is 1 for all.
        """
        directions = both_directions(S, positives)
        self._watch(directions)
        if labels is None:
            labels = torch.ones_like(directions[0].positive)
        margin = soft_margin(labels, self.margin, self.base)
        return self.reduce([hard_negative(anchors, margin) for anchors in directions])

    @torch.no_grad()
    def pair_losses(self, S: Tensor, positives: Tensor | None = None) -> Tensor:
        """(B,), the loss of each pair in both directions with label 1."""
        image, caption = both_directions(S, positives)
        return hard_negative(image, self.margin) + hard_negative(caption, self.margin)


def clean_probability(losses: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probability that a pair matches, from the losses of all training pairs.

    A mixture of two Gaussians is fitted to the losses, scaled to [0, 1]; a pair matches with the
    probability of the component of lower mean. NCR splits at 0.5.

    Args:
        losses: (N,).
        seed: Of the mixture's initial means.

    Returns:
        (N,) in [0, 1].
    """
    from sklearn.mixture import GaussianMixture

    losses = np.asarray(losses, dtype=np.float64).reshape(-1, 1)
    spread = np.ptp(losses)
    losses = (losses - losses.min()) / (spread or 1.0)
    mixture = GaussianMixture(2, max_iter=50, tol=1e-4, reg_covar=5e-4, random_state=seed)
    probabilities = mixture.fit(losses).predict_proba(losses)
    return probabilities[:, mixture.means_.argmin()]
