"""NCR's epochs: warm-up, then a split of the pairs by each network for the other."""

from __future__ import annotations

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from projects.common.build import unwrapped
from projects.rvse.losses import clean_probability
from projects.rvse.models import CoTrainedMatcher

from .training_set import training_batches

__all__ = ['CleanSplitHook']


@HOOKS.register_module()
class CleanSplitHook(Hook):
    """Sets the soft labels of a :class:`CoTrainedMatcher` before every epoch.

    The first epochs train with all negatives, averaged over the batch. Before each further one
    both networks compute the loss of every training pair, in batches in random order; from one
    network's losses comes the probability that a pair matches, and with it the other's label: 1
    above ``threshold``, the probability itself below.

    Args:
        warm_up_epochs: Epochs with all negatives.
        threshold: Of the probability; 0.5 as published.
        seed: Of the order of the batches and of the mixture's initial means.

    Raises:
        TypeError: The model is another one.
    """

    priority = 'LOW'  # behind the hook that makes a vocabulary

    def __init__(self, warm_up_epochs: int = 5, threshold: float = 0.5, seed: int = 0) -> None:
        self.warm_up_epochs = warm_up_epochs
        self.threshold = threshold
        self.seed = seed

    def before_train(self, runner) -> None:
        """Gives both networks the one vocabulary.

        Raises:
            TypeError: The model is no :class:`CoTrainedMatcher`.
        """
        model = unwrapped(runner.model)
        if not isinstance(model, CoTrainedMatcher):
            raise TypeError(
                f'CleanSplitHook: the model is a {type(model).__name__}, expected CoTrainedMatcher'
            )
        if getattr(model.text_encoder, 'vocabulary', None) is not None:
            model.share_vocabulary()

    def before_train_epoch(self, runner) -> None:
        """Sets the loss of the warm-up or, after it, the labels."""
        model = unwrapped(runner.model)
        if runner.epoch < self.warm_up_epochs:
            margin = model.matchers[0].criterion.margin
            model.warm_up_loss = MODELS.build(
                dict(type='ITMTripletLoss', margin=margin, reduction='batch_mean')
            )
            return
        model.warm_up_loss = None
        losses = self._pair_losses(runner, model)
        probabilities = [clean_probability(each, self.seed) for each in losses.numpy()]
        labels = [np.where(p > self.threshold, 1.0, p) for p in probabilities]
        # each network trains on what the other found
        model.labels = torch.from_numpy(np.stack(labels[::-1]))
        shares = ', '.join(f'{(p > self.threshold).mean():.1%}' for p in probabilities)
        runner.logger.info(f'pairs that match, by network: {shares}')

    @torch.no_grad()
    def _pair_losses(self, runner, model: CoTrainedMatcher) -> torch.Tensor:
        """(2, N), by network and text_id."""
        dataset = runner.train_dataloader.dataset
        generator = torch.Generator().manual_seed(self.seed + runner.epoch)
        order = torch.randperm(len(dataset), generator=generator)
        losses = torch.zeros(2, len(dataset), dtype=torch.float64)
        training = model.training
        model.eval()
        size = runner.train_dataloader.batch_size
        mine = torch.cat(order.split(size)[dist.get_rank() :: dist.get_world_size()])
        for rows, data in training_batches(runner, dataset, mine):
            for k, matcher in enumerate(model.matchers):
                scores, positives = matcher.pair_scores(data['inputs'], data['data_samples'])
                losses[k, rows] = matcher.criterion.pair_losses(scores, positives).cpu().double()
        model.train(training)
        if dist.get_world_size() > 1:
            dist.all_reduce(losses)  # each pair was one process's
        return losses
