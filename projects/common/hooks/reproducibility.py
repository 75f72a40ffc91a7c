"""Make runs repeatable, exactly resumable, and independent of the number of workers."""

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
    """Hash several numbers into a 32-bit seed, so that neighbors get unrelated streams."""
    return int(np.random.SeedSequence([n % 2**63 for n in numbers]).generate_state(1)[0])


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class SeededIndex(int):
    """Carry the seed of a sample with its index from the sampler to the dataset."""

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:  # indices reach the workers through a queue
        return SeededIndex, (int(self), self.seed)


class _SeededSampler(Sampler):
    """Attach a seed made from (run seed, epoch, position in the epoch) to each index.

    Args:
        sampler: The sampler of the data loader.
        seed: Seed of the run.
        start: Number of positions already skipped by the sampler (per process).
    """

    def __init__(self, sampler: Sampler, seed: int, start: int) -> None:
        self.sampler: Any = sampler
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[SeededIndex]:
        rank, world_size = get_dist_info()
        epoch = getattr(self.sampler, 'epoch', 0)
        for position, index in enumerate(self.sampler, self.start):
            # MMEngine's samplers distribute indices round-robin, so this is the position in the
            # global order: two processes draw the same augmentations as one process with twice the
            # batch size.
            yield SeededIndex(index, _mix(self.seed, epoch, position * world_size + rank))

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name == 'sampler':  # not set yet, for example during unpickling
            raise AttributeError(name)
        return getattr(self.sampler, name)


class _SeededDataset(Dataset):
    """Seed all generators before each sample, and otherwise act like the wrapped dataset."""

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
    """Derive all randomness of training from (seed, position) instead of from earlier draws.

    The augmentation of a sample depends on the run's seed, the epoch and the position of the sample
    in it. The dropout of an iteration depends on the seed, the iteration and the rank. A run
    resumed from any checkpoint therefore continues as if it had never stopped, with any number of
    data-loading workers, persistent or not, and several processes see the same samples as one
    process with their total batch size.

    One process and several still differ in batch-normalization statistics (each process has its
    own) and dropout (drawn per process).

    Add it to `default_hooks`, so that configs that set `custom_hooks` keep it.
    """

    priority = 'LOWEST'  # after DistSamplerSeedHook and all other hooks that draw random numbers

    def before_train(self, runner) -> None:
        """Attach the seeds to the sampler and the dataset of the training loader."""
        loader = runner.train_dataloader
        # Log the seed, because it is random if the config does not set it.
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
        # MMEngine advances an infinite sampler when it resumes (counting per process).
        skipped = runner.iter * batches.batch_size if hasattr(batches.sampler, 'skip') else 0
        batches.sampler = _SeededSampler(batches.sampler, runner.seed, skipped)
        # DataLoader does not allow replacing its dataset because the samplers were built for it.
        # The new dataset has the same indices.
        vars(loader)['dataset'] = _SeededDataset(loader.dataset)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the iteration, that is, its dropout and all other random draws of the model."""
        rank, _ = get_dist_info()
        _seed_everything(_mix(runner.seed, runner.iter, rank, 1))
