"""Embeddings on disk, so that their number does not decide how much memory an evaluation takes."""

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
    """Embeddings, (C,) or (N_i, C) each, written batch by batch and read in any order.

    Every process writes a file of its own; after :meth:`share` each reads all of them, so the
    folder must be one that all processes see. Stored are float32 and no padding.

    Args:
        folder: Folder of the files, which exists.
        name: Beginning of the files' names.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.paths = [
            os.path.join(folder, f'{name}.{rank}.f32') for rank in range(dist.get_world_size())
        ]
        self._out = open(self.paths[dist.get_rank()], 'wb')  # noqa: SIM115  closed by share
        self._ids: list[int] = []
        self._lengths: list[int] = []
        self._shape: tuple[int, bool] | None = None  # channels, whether there is a row each
        self._files: list[int] = []

    def add(self, ids: Sequence[int], features: Tensor, lengths: Tensor) -> None:
        """Appends a batch.

        Args:
            ids: B numbers from 0 that name the entries.
            features: (B, C), or (B, N, C) of which ``lengths[i]`` rows count.
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
        """Ends the writing; afterwards any entry of any process can be read.

        Args:
            count: Entries that there must be.

        Raises:
            ValueError: One is missing.
        """
        self._out.close()
        tables: list = [None] * dist.get_world_size()
        if len(tables) > 1:
            dist.barrier()  # all files are complete
            torch.distributed.all_gather_object(tables, (self._ids, self._lengths, self._shape))
        else:
            tables[0] = (self._ids, self._lengths, self._shape)
        self._channels, self._single = next(shape for *_, shape in tables if shape is not None)
        self._rank = np.full(count, -1)
        self._start = np.zeros(count, dtype=np.int64)
        self._size = np.zeros(count, dtype=np.int64)
        for rank, (ids, lengths, _) in enumerate(tables):
            starts = np.cumsum([0, *lengths])[:-1]
            # A sampler that fills the last batch encodes an entry twice, to the same values.
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
        """Embeddings (B, C) or (B, N, C), zero beyond each one's rows, and the rows (B,)."""
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
        """Removes this process's file."""
        self._out.close()
        for file in self._files:
            os.close(file)
        self._files = []
        if os.path.exists(self.paths[dist.get_rank()]):
            os.remove(self.paths[dist.get_rank()])
