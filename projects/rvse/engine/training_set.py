"""Going over the training pairs in order, without augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset, Subset

from projects.common.build import unwrapped

__all__ = ['training_batches']


def training_batches(
    runner, dataset: Dataset, rows: torch.Tensor, batch_size: int | None = None
) -> Iterator[tuple[torch.Tensor, dict]]:
    """Batches of ``dataset[rows]`` as the model's data preprocessor gives them.

    Args:
        runner: Its training loader says how many workers read.
        dataset: Whose samples.
        rows: (N,) int64, in the order wanted.
        batch_size: None is that of the training loader.

    Yields:
        The rows of a batch, and its ``inputs`` and ``data_samples``.
    """
    train = runner.train_dataloader
    loader = DataLoader(
        Subset(dataset, rows.tolist()),
        batch_size=batch_size or train.batch_size,
        num_workers=train.num_workers,
        collate_fn=pseudo_collate,
    )
    model = unwrapped(runner.model)
    start = 0
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        count = len(data['data_samples'])
        yield rows[start : start + count], data
        start += count
