"""A hook that makes runs repeatable, resumable bit for bit, and independent of the worker count."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ['ReproducibilityHook']


def _mix(*numbers: int) -> int:
    """A 32-bit seed from several numbers, so that neighbours share no stream."""
    return int(np.random.SeedSequence([n % 2**63 for n in numbers]).generate_state(1)[0])


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class SeededIndex(int):
    """A dataset index that carries the seed of its sample from the sampler to the dataset."""

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:  # workers receive indices through a queue
        return SeededIndex, (int(self), self.seed)


class _SeededSampler(Sampler):
    """Attaches to each index a seed made from (run seed, epoch, position in the epoch).

    Args:
        sampler: The sampler of the data loader.
        seed: Seed of the run.
        start: Positions that the sampler has skipped already (per process).
    """

    def __init__(self, sampler: Sampler, seed: int, start: int) -> None:
        self.sampler: Any = sampler
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[SeededIndex]:
        rank, world_size = get_dist_info()
        epoch = getattr(self.sampler, 'epoch', 0)
        for position, index in enumerate(self.sampler, self.start):
            # MMEngine's samplers deal indices out in turn: this is the position in the global
            # order, so two processes draw the same augmentations as one with twice the batch.
            yield SeededIndex(index, _mix(self.seed, epoch, position * world_size + rank))

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name == 'sampler':  # not set yet, as while unpickling
            raise AttributeError(name)
        return getattr(self.sampler, name)


class _SeededDataset(Dataset):
    """Seeds all generators before each sample; otherwise the dataset that it holds."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset: Any = dataset

    def __getitem__(self, index: int) -> Any:
        if isinstance(index, SeededIndex):
            _seed_everything(index.seed)
        return self.dataset[int(index)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)


@HOOKS.register_module()
class ReproducibilityHook(Hook):
    """Derive all randomness of training from (seed, position) instead of from what ran before.

    Every sample's augmentation depends on the run's seed, the epoch and the sample's place in it;
    every iteration's dropout on the seed, the iteration and the rank. A run resumed from any
    checkpoint therefore continues as if it had never stopped, for any number of data-loading
    workers, persistent or not, and processes see the samples that one process with their joint
    batch would see.

    What it cannot make equal: batch-normalisation statistics (each process has its own) and dropout
    (drawn per process) differ between one process and several.

    Goes into `default_hooks`, so that a config which sets `custom_hooks` keeps it.
    """

    priority = 'LOWEST'  # after DistSamplerSeedHook and anything that draws numbers

    def before_train(self, runner) -> None:
        """Puts the seeds into the sampler and the dataset of the training loader."""
        loader = runner.train_dataloader
        # Stated once in the log, because an unseeded run draws it.
        runner.logger.info(
            f'seed: {runner.seed} (repeat with --cfg-options randomness.seed={runner.seed})'
        )
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, _SeededDataset):
            return
        batches: Any = loader.batch_sampler
        if not hasattr(batches, 'sampler'):
            runner.logger.warning(
                f'{type(batches).__name__} has no sampler: augmentations are not repeatable'
            )
            return
        # An infinite sampler is moved forward on resuming (MMEngine counts per process).
        skipped = runner.iter * batches.batch_size if hasattr(batches.sampler, 'skip') else 0
        batches.sampler = _SeededSampler(batches.sampler, runner.seed, skipped)
        # DataLoader forbids to replace its dataset because its samplers were made for it; this one
        # has the same indices.
        vars(loader)['dataset'] = _SeededDataset(loader.dataset)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seeds the iteration: its dropout and whatever else the model draws."""
        rank, _ = get_dist_info()
        _seed_everything(_mix(runner.seed, runner.iter, rank, 1))
