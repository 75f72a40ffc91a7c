"""Iteration over the training pairs in a chosen order, and their losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from projects.common.build import unwrapped
from projects.rvse.datasets import stack_pairs
from projects.rvse.models import CoTrainedMatcher

__all__ = ['pair_loader', 'pair_losses', 'training_batches']


def pair_loader(
    runner, dataset: Dataset, rows: Sequence[int], batch_size: int | None = None
) -> DataLoader:
    """Build a loader of ``dataset[rows]`` in this order, including the last batch.

    Args:
        runner: The runner. The number of workers is that of its training loader.
        dataset: The data set to read.
        rows: Indices in the order to read them.
        batch_size: Batch size. None uses that of the training loader.
    """
    train = runner.train_dataloader
    return DataLoader(
        Subset(dataset, rows),
        batch_size=batch_size or train.batch_size,
        num_workers=train.num_workers,
        collate_fn=stack_pairs,
    )


def training_batches(
    runner,
    dataset: Dataset,
    rows: Tensor,
    batch_size: int | None = None,
    model: nn.Module | None = None,
) -> Iterator[tuple[Tensor, dict]]:
    """Yield batches of ``dataset[rows]`` after the data preprocessor of a model.

    Args:
        runner: See :func:`pair_loader`.
        dataset: The data set to read.
        rows: (N,) int64, in the order to read them.
        batch_size: Batch size. None uses that of the training loader.
        model: Model whose data preprocessor is used. None uses the model of the runner.

    Yields:
        The rows of a batch, and its ``inputs`` and ``data_samples``.
    """
    preprocess: Any = (model or unwrapped(runner.model)).data_preprocessor
    start = 0
    for batch in pair_loader(runner, dataset, rows.tolist(), batch_size):
        data = preprocess(batch, False)
        count = len(data['data_samples'])
        yield rows[start : start + count], data
        start += count


@torch.no_grad()
def pair_losses(runner, model: CoTrainedMatcher, seed: int) -> Tensor:
    """Compute the loss of every training pair by both networks, in batches in random order.

    Args:
        runner: Runner of the training.
        model: Its model, without wrappers.
        seed: Seed of the order, combined with the epoch.

    Returns:
        (2, N) float64, by network and ``text_id``.
    """
    dataset = runner.train_dataloader.dataset
    generator = torch.Generator().manual_seed(seed + runner.epoch)
    order = torch.randperm(len(dataset), generator=generator)
    rank, world = dist.get_rank(), dist.get_world_size()
    # the joint batch of all processes, since the loss of a pair depends on the batch
    size = min(runner.train_dataloader.batch_size * world, len(order))
    # Fill up the last batch: a mean over fewer negatives, in which the pair itself counts as 0,
    # would be lower and look like a match.
    filled = torch.cat([order, order[: -len(order) % size]])
    new = torch.arange(len(filled)) < len(order)
    losses = torch.zeros(2, len(dataset), dtype=torch.float64)
    training = model.training
    model.share_vocabulary()  # without a warm-up, this is the first use of the networks
    model.eval()
    mine = torch.cat(filled.split(size)[rank::world])
    kept = torch.cat(new.split(size)[rank::world]).split(size)
    for (rows, data), keep in zip(training_batches(runner, dataset, mine, size), kept):
        for k, matcher in enumerate(model.matchers):
            scores, positives = matcher.pair_scores(data['inputs'], data['data_samples'])
            found = matcher.criterion.pair_losses(scores, positives).cpu().double()
            losses[k, rows[keep]] = found[keep]
    model.train(training)
    if world > 1:
        dist.all_reduce(losses)  # each pair was computed by one process
    return losses
