"""Randomness that depends on seed and position alone."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from projects.common.hooks.reproducibility import ReproducibilityHook


class Noise(Dataset):
    """Samples that are the three generators' next numbers."""

    metainfo = {'classes': ('a',)}

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        assert type(index) is int
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()])


def loader_after_hook(
    num_workers: int = 0, seed: int = 5, sampler=DefaultSampler, start: int = 0, **kwargs
):
    dataset = Noise()
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=num_workers,
        sampler=sampler(dataset, shuffle=True, seed=seed),
        persistent_workers=num_workers > 0,
        **kwargs,
    )
    runner = SimpleNamespace(
        train_dataloader=loader, seed=seed, iter=start, logger=logging.getLogger('test')
    )
    ReproducibilityHook().before_train(runner)
    assert loader.dataset.metainfo == Noise.metainfo  # the wrapper passes for the data set
    return loader


def epoch(loader: DataLoader, number: int) -> torch.Tensor:
    loader.sampler.set_epoch(number)
    return torch.cat(list(loader))


def test_workers_and_history_make_no_difference() -> None:
    first = loader_after_hook()
    straight = [epoch(first, number) for number in range(3)]
    torch.rand(7)  # what happened in between does not matter
    assert torch.equal(epoch(loader_after_hook(), 2), straight[2])
    workers = loader_after_hook(num_workers=2)
    assert torch.equal(epoch(workers, 0), straight[0])
    assert torch.equal(epoch(workers, 1), straight[1])


def test_epochs_samples_and_seeds_differ() -> None:
    loader = loader_after_hook()
    a, b = (epoch(loader, number) for number in range(2))
    other = epoch(loader_after_hook(seed=6), 0)
    numbers = torch.cat([a, b, other])[:, 1:].flatten()
    assert numbers.unique().numel() == numbers.numel()


def test_an_infinite_sampler_goes_on_where_it_was() -> None:
    straight = iter(loader_after_hook(sampler=InfiniteSampler))
    batches = [next(straight) for _ in range(5)]
    resumed = loader_after_hook(sampler=InfiniteSampler, start=3)
    resumed.sampler.skip(3 * 4)  # as MMEngine's loop does
    assert torch.equal(next(iter(resumed)), batches[3])


def test_two_ranks_together_see_what_one_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epoch(loader_after_hook(), 1)
    parts = []
    for rank in range(2):
        for place in ('mmengine.dataset.sampler', 'projects.common.hooks.reproducibility'):
            monkeypatch.setattr(f'{place}.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(epoch(loader_after_hook(), 1))
    joint = torch.stack(parts, dim=1).flatten(0, 1)  # rank 0 and 1 in turn
    assert torch.equal(joint, whole)


def test_an_iteration_draws_the_same_after_any_history() -> None:
    hook, runner = ReproducibilityHook(), SimpleNamespace(seed=1, iter=8)
    hook.before_train_iter(runner, 0)
    expected = torch.rand(3)
    torch.rand(100)
    hook.before_train_iter(runner, 5)
    assert torch.equal(torch.rand(3), expected)
    runner.iter = 9
    hook.before_train_iter(runner, 0)
    assert not torch.equal(torch.rand(3), expected)
