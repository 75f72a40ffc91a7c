"""NCR with a joint step of both networks: warm-up, then a split of the pairs before every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from projects.common.build import unwrapped
from projects.rvse.losses import clean_probability
from projects.rvse.models import CoTrainedMatcher

from .training_set import pair_losses

__all__ = ['CleanSplitHook', 'warm_up_loss']


def warm_up_loss(model: CoTrainedMatcher) -> torch.nn.Module:
    """Build the warm-up loss of NCR: all negatives, averaged over the batch."""
    margin = model.matchers[0].criterion.margin
    return MODELS.build(dict(type='ITMTripletLoss', margin=margin, reduction='batch_mean'))


@HOOKS.register_module()
class CleanSplitHook(Hook):
    """Set the soft labels of a :class:`CoTrainedMatcher` whose networks are trained jointly.

    This is a variant of NCR; :class:`CoTrainLoop` trains as released. The warm-up epochs use all
    negatives, averaged over the batch. Before every later epoch both networks compute the loss of
    every training pair. The losses of one network give the probability that a pair matches, and
    with it the label for the other network: 1 above ``threshold``, the probability itself below.

    Args:
        warm_up_epochs: Number of initial epochs with all negatives.
        threshold: Threshold on the probability; 0.5 as published.
        seed: Seed for the order of the batches and the initial means of the mixture.
        max_iter: See :func:`clean_probability`.
        tol: See :func:`clean_probability`.

    Raises:
        TypeError: The model is not a :class:`CoTrainedMatcher`.
    """

    def __init__(
        self,
        warm_up_epochs: int = 5,
        threshold: float = 0.5,
        seed: int = 0,
        max_iter: int = 50,
        tol: float = 1e-4,
    ) -> None:
        self.warm_up_epochs = warm_up_epochs
        self.threshold = threshold
        self.seed = seed
        self.limits: dict[str, Any] = dict(max_iter=max_iter, tol=tol)

    def before_train(self, runner) -> None:
        """Check the type of the model.

        Raises:
            TypeError: The model is not a :class:`CoTrainedMatcher`.
        """
        model = unwrapped(runner.model)
        if not isinstance(model, CoTrainedMatcher):
            raise TypeError(
                f'CleanSplitHook: the model is a {type(model).__name__}, expected CoTrainedMatcher'
            )

    def before_train_epoch(self, runner) -> None:
        """Set the warm-up loss or, after the warm-up, the labels."""
        model = unwrapped(runner.model)
        if runner.epoch < self.warm_up_epochs:
            model.warm_up_loss = warm_up_loss(model)
            return
        model.warm_up_loss = None
        losses = pair_losses(runner, model, self.seed).numpy()
        probabilities = [clean_probability(each, self.seed, **self.limits) for each in losses]
        labels = [np.where(p > self.threshold, 1.0, p) for p in probabilities]
        # each network trains on the labels found by the other
        model.labels = torch.from_numpy(np.stack(labels[::-1]))
        shares = ', '.join(f'{(p > self.threshold).mean():.1%}' for p in probabilities)
        runner.logger.info(f'pairs that match, by network: {shares}')
