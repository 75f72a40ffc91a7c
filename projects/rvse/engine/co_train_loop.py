"""NCR as released: two networks trained in turn, each on the pairs the other considers matching."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, repeat
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor

from projects.common.build import unwrapped
from projects.common.errors import InputError
from projects.common.hooks.reproducibility import SeededIndex
from projects.rvse.losses import clean_pairs, clean_probability
from projects.rvse.models import CoTrainedMatcher

from .clean_split_hook import warm_up_loss
from .training_set import pair_loader, pair_losses

__all__ = ['CoTrainLoop']


@LOOPS.register_module()
class CoTrainLoop(EpochBasedTrainLoop):
    """Train a :class:`CoTrainedMatcher` like NCR's released code.

    In every epoch the first network trains on its batches, then the second. The warm-up uses all
    pairs, with all negatives. Before every later epoch both networks compute the loss of every
    pair, and the losses of one network split the pairs for the other (:func:`clean_probability`,
    :func:`clean_pairs`). The step on a batch of matching pairs uses the labels w + (1 - w) p, where
    w is the probability that the pair matches and p the network's own prediction
    (:meth:`NCRLoss.predict_labels`). In the second half of the epochs after the warm-up, a separate
    step on a batch of the other pairs follows. Its labels are the mean predictions of both
    networks. All predictions are made before the first of the two steps.

    A step updates a single network and clips only its gradient: the parameters of the other one
    have no gradient, and optimizers skip them. Batches of a single pair, which batch norms cannot
    process, are skipped.

    Args:
        max_epochs: Number of epochs, including the warm-up.
        warm_up_epochs: Number of initial warm-up epochs. The decay of the learning rate counts from
            the first of them.
        threshold: Threshold on the probability that a pair matches.
        max_iter: See :func:`clean_probability`.
        tol: See :func:`clean_probability`.
        **kwargs: See :class:`mmengine.runner.EpochBasedTrainLoop`.

    Raises:
        ValueError: There are no epochs after the warm-up, or gradients are accumulated.
        TypeError: The model is not a :class:`CoTrainedMatcher`.
    """

    def __init__(
        self,
        runner,
        dataloader: Any,
        max_epochs: int,
        warm_up_epochs: int = 5,
        threshold: float = 0.5,
        max_iter: int = 10,
        tol: float = 1e-2,
        **kwargs,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        if not 0 <= warm_up_epochs < max_epochs:
            raise InputError(
                f'CoTrainLoop: warm_up_epochs={warm_up_epochs}, expected less than '
                f'max_epochs={max_epochs}, which counts them'
            )
        self.warm_up_epochs = warm_up_epochs
        self.threshold = threshold
        self.limits: dict[str, Any] = dict(max_iter=max_iter, tol=tol)
        self.probabilities: np.ndarray | None = None  # (2, N), by judging network
        self._max_iters *= 2  # an upper bound, reached if all pairs match

    def run(self) -> Any:
        """Train the model.

        Raises:
            TypeError: The model is not a :class:`CoTrainedMatcher`.
            ValueError: The optimizer wrapper accumulates gradients, which would mix both networks.
        """
        model = unwrapped(self.runner.model)
        if not isinstance(model, CoTrainedMatcher):
            raise TypeError(
                f'CoTrainLoop: the model is a {type(model).__name__}, expected CoTrainedMatcher'
            )
        counts = getattr(self.runner.optim_wrapper, '_accumulative_counts', 1)
        if counts != 1:
            raise InputError(
                f'CoTrainLoop: optim_wrapper.accumulative_counts={counts}, expected 1: the '
                'networks take turns'
            )
        return super().run()

    def run_epoch(self) -> None:
        """Train the first network for an epoch, then the second."""
        self.runner.call_hook('before_train_epoch')
        model = unwrapped(self.runner.model)
        warm_up = self._epoch < self.warm_up_epochs
        model.warm_up_loss = warm_up_loss(model) if warm_up else None
        self.probabilities = None if warm_up else self._split(model)
        try:
            for network in range(2):
                idx = 0  # restarts, so that logs count to the length of the loader
                model.active = network
                self.runner.model.train()
                self.runner.logger.info(f'epoch {self._epoch + 1}: network {network + 1} of 2')
                batches = self._all_pairs(network) if warm_up else self._split_pairs(network)
                for batch, others in batches:
                    if len(batch['data_samples']) > 1:
                        self.run_iter(idx, batch, others)
                        idx += 1
        finally:
            model.active = None
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any, others: dict | None = None) -> None:
        """Take one step with the active network, or two.

        Args:
            idx: Index of the batch in the epoch of the network.
            data_batch: Matching pairs; any pairs during the warm-up.
            others: Pairs that do not match.
        """
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        if self.probabilities is not None:
            self._label(data_batch, others)
        outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        if others is not None:
            more = runner.model.train_step(others, optim_wrapper=runner.optim_wrapper)
            outputs['loss_others'] = more['loss']
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _split(self, model: CoTrainedMatcher) -> np.ndarray:
        """Compute the probability (2, N) that each pair matches, by judging network."""
        seed = self.runner.seed
        losses = pair_losses(self.runner, model, seed).numpy()
        found = np.stack([clean_probability(each, seed % 2**32, **self.limits) for each in losses])
        shares = ', '.join(f'{clean_pairs(p, self.threshold).mean():.1%}' for p in found)
        self.runner.logger.info(f'pairs that match, by network: {shares}')
        return found

    def _all_pairs(self, network: int) -> Iterator[tuple[dict, None]]:
        batches: Any = self.dataloader.batch_sampler
        if hasattr(batches.sampler, 'set_epoch'):  # a different order for each network
            batches.sampler.set_epoch(2 * self._epoch + network)
        for batch in self.dataloader:
            yield batch, None

    def _split_pairs(self, network: int) -> Iterator[tuple[dict, dict | None]]:
        """Yield batches of matching pairs and of other pairs, as judged by the other network."""
        assert self.probabilities is not None
        match = torch.from_numpy(clean_pairs(self.probabilities[1 - network], self.threshold))
        batches = self._loader(match.nonzero()[:, 0], network, 0, self.dataloader.drop_last)
        trained = self.max_epochs - self.warm_up_epochs
        rest = (~match).nonzero()[:, 0]
        if self._epoch - self.warm_up_epochs < trained // 2 or len(rest) < 2:
            others: Any = repeat(None)
        else:  # repeat endlessly, each time in a new order
            others = chain.from_iterable(self._loader(rest, network, turn) for turn in count(1))
        for batch in batches:
            other = next(others)
            alone = other is not None and len(other['data_samples']) < 2
            yield batch, None if alone else other

    def _loader(self, rows: Tensor, network: int, turn: int, drop_last: bool = False) -> Any:
        """Build a loader of the rows in random order, with equal counts for all processes."""
        runner, dataset = self.runner, self.dataloader.dataset
        seeds = np.random.SeedSequence([runner.seed % 2**63, self._epoch, network, turn])
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1)[0]))
        rank, world = dist.get_rank(), dist.get_world_size()
        order = rows[torch.randperm(len(rows), generator=generator)]
        filled = order[torch.arange(-(-len(order) // world) * world) % len(order)][rank::world]
        size = self.dataloader.batch_size
        if drop_last and len(filled) > size:
            filled = filled[: len(filled) // size * size]
        # seeds of the augmentation, as set by ReproducibilityHook
        sample_seeds = seeds.spawn(1)[0].generate_state(max(1, len(filled) * world))[rank::world]
        indices = [SeededIndex(i, int(s)) for i, s in zip(filled.tolist(), sample_seeds)]
        return pair_loader(runner, dataset, indices)

    @torch.no_grad()
    def _label(self, batch: dict, others: dict | None) -> None:
        """Write ``correspondence`` to the samples of both batches."""
        assert self.probabilities is not None
        model = unwrapped(self.runner.model)
        network = model.active
        samples = batch['data_samples']
        own = model.predict_labels(network, model.data_preprocessor(batch, False)).tolist()
        for sample, predicted in zip(samples, own):
            weight = float(self.probabilities[1 - network][sample.text_id])
            sample.correspondence = weight + (1 - weight) * predicted
        if others is not None:
            data = model.data_preprocessor(others, False)
            both = (model.predict_labels(0, data) + model.predict_labels(1, data)) / 2
            for sample, predicted in zip(others['data_samples'], both.tolist()):
                sample.correspondence = predicted
