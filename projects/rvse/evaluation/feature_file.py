"""Embeddings on disk, so that the memory of an evaluation does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from mmengine import dist
from torch import Tensor

from projects.common.errors import InputError

__all__ = ['FeatureFile']


class FeatureFile:
    """Store embeddings of shape (C,) or (N_i, C), written in batches and read in any order.

    Every process writes its own file. After :meth:`share` every process reads all of them, so the
    folder must be visible to all processes. Embeddings are stored in float32, without padding.

    Args:
        folder: Existing folder for the files.
        name: Prefix of the file names.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.paths = [
            os.path.join(folder, f'{name}.{rank}.f32') for rank in range(dist.get_world_size())
        ]
        self._out = open(self.paths[dist.get_rank()], 'wb')  # noqa: SIM115  closed by share
        self._ids: list[int] = []
        self._lengths: list[int] = []
        self._shape: tuple[int, bool] | None = None  # channels, whether entries are single rows
        self._files: list[int] = []

    def add(self, ids: Sequence[int], features: Tensor, lengths: Tensor) -> None:
        """Append a batch.

        Args:
            ids: B indices of the entries, from 0.
            features: (B, C), or (B, N, C) with ``lengths[i]`` valid rows in entry i.
            lengths: (B,) int64.
        """
        single = features.dim() == 2
        self._shape = (features.shape[-1], single)
        array = features.detach().to('cpu', torch.float32).numpy()
        for number, row, length in zip(ids, array, lengths.tolist()):
            part = row[None] if single else row[:length]
            self._out.write(np.ascontiguousarray(part).tobytes())
            self._ids.append(number)
            self._lengths.append(len(part))

    def share(self, count: int) -> FeatureFile:
        """Finish writing and make the entries of all processes readable.

        Args:
            count: Expected number of entries.

        Raises:
            ValueError: An entry is missing.
        """
        self._out.close()
        tables: list = [None] * dist.get_world_size()
        if len(tables) > 1:
            dist.barrier()  # wait until all files are complete
            torch.distributed.all_gather_object(tables, (self._ids, self._lengths, self._shape))
        else:
            tables[0] = (self._ids, self._lengths, self._shape)
        self._channels, self._single = next(shape for *_, shape in tables if shape is not None)
        self._rank = np.full(count, -1)
        self._start = np.zeros(count, dtype=np.int64)
        self._size = np.zeros(count, dtype=np.int64)
        for rank, (ids, lengths, _) in enumerate(tables):
            starts = np.cumsum([0, *lengths])[:-1]
            # A sampler that pads the last batch encodes an entry twice, with equal results.
            self._rank[ids], self._start[ids], self._size[ids] = rank, starts, lengths
        if (self._rank < 0).any():
            missing = np.flatnonzero(self._rank < 0)
            raise InputError(
                f'{self.paths[0]}: {len(missing)} of {count} entries were not encoded, the first '
                f'is {missing[0]}'
            )
        self._files = [os.open(path, os.O_RDONLY) for path in self.paths]
        return self

    def __getitem__(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings (B, C) or zero-padded (B, N, C), and the number of rows (B,)."""
        width = 4 * self._channels
        rows = []
        for i in entries.tolist():
            data = os.pread(
                self._files[self._rank[i]], self._size[i] * width, self._start[i] * width
            )
            rows.append(
                torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, self._channels)
            )
        lengths = torch.tensor([len(row) for row in rows])
        if self._single:
            return torch.cat(rows), lengths
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def close(self) -> None:
        """Close all files and remove the one written by this process."""
        self._out.close()
        for file in self._files:
            os.close(file)
        self._files = []
        if os.path.exists(self.paths[dist.get_rank()]):
            os.remove(self.paths[dist.get_rank()])
