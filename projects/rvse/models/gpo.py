"""GPO: the Generalized Pooling Operator of VSE-infinity."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .gru import is_operator, run_gru
from .sequences import length_mask


def sinusoids(length: int, channels: int) -> Tensor:
    """Compute position encodings (length, channels): sines in even, cosines in odd channels."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, channels, 2).float() * -(math.log(10000.0) / channels))
    waves = torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=2)
    return waves.flatten(1)[:, :channels]


@MODELS.register_module()
class GPO(nn.Module):
    """Pool a set into a vector: sort every channel and weight the ranks.

    The weights only depend on the size of the set and are learnt by a small BiGRU over encodings
    of the ranks. On a CPU, every size in a batch is computed once; a GPU computes all sets.

    Args:
        d_pe: Channels of the encoding of ranks.
        d_hidden: Channels of the BiGRU, whose directions are averaged.
        temperature: Temperature of the softmax over ranks.
    """

    def __init__(self, d_pe: int = 32, d_hidden: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        self.d_pe = d_pe
        self.temperature = temperature
        self.gru = nn.GRU(d_pe, d_hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(d_hidden, 1, bias=False)
        self._table: Tensor | None = None  # not a buffer: checkpoints have none

    def pool_weights(self, lengths: Tensor, size: int) -> Tensor:
        """Compute weights (B, size) of the ranks for sets of ``lengths`` (B,).

        Rows sum to 1; the weights of padding are 0.
        """
        encoding = self._encoding(size)
        row = None
        if is_operator():
            ranks = encoding.expand(lengths.shape[0], -1, -1)
            forward, backward = run_gru(self.gru, ranks, lengths).chunk(2, dim=-1)
        elif lengths.device.type == 'cpu' and not torch.compiler.is_compiling():
            lengths, row = lengths.unique(return_inverse=True)
            hidden = run_gru(self.gru, encoding.expand(len(lengths), -1, -1), lengths)
            forward, backward = hidden.chunk(2, dim=-1)
        else:  # the host would wait for the number of distinct sizes
            forward, backward = self._states(encoding, lengths)
        scores = self.linear((forward + backward) / 2).squeeze(-1)
        # float32 even under autocast, because the temperature amplifies rounding errors
        scores = scores if scores.dtype == torch.float64 else scores.float()
        scores = scores.masked_fill(~length_mask(lengths, size), -torch.inf)
        weights = torch.softmax(scores / self.temperature, dim=1)
        return weights if row is None else weights[row]

    def _states(self, encoding: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run the GRU without packing, which would need the sizes on the host.

        Args:
            encoding: (N, d_pe), of the ranks.
            lengths: (B,), sizes of the sets.

        Returns:
            States of the forward direction (1, N, d_hidden), which the ranks that follow do not
            affect, and of the backward direction (B, N, d_hidden). Those of padding have no
            meaning.
        """
        size = encoding.shape[0]
        step = torch.arange(size, device=encoding.device)
        shift = (size - lengths)[:, None]
        # The backward direction starts at the end of a row: the last rank of a set is moved there.
        moved = encoding[(step - shift).clamp(min=0)]
        states = self.gru(torch.cat([encoding[None], moved]))[0]
        forward, backward = states.chunk(2, dim=-1)
        place = (step + shift).clamp(max=size - 1)[..., None]
        return forward[:1], backward[1:].gather(1, place.expand_as(backward[1:]))

    def _encoding(self, size: int) -> Tensor:
        """Return the encodings of ranks (size, d_pe) from a table that grows when it has to."""
        weight: Any = self.gru.weight_ih_l0
        if is_operator():  # a graph has its own, for any size
            return sinusoids(size, self.d_pe).to(weight)
        table = self._table
        if table is None or len(table) < size or table.device != weight.device:
            table = self._table = sinusoids(max(size, 64), self.d_pe).to(weight.device)
        return table[:size].to(weight.dtype)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pool a batch of sets.

        Args:
            features: (B, N, C). Values beyond the size of a set are ignored.
            lengths: (B,) int64 from 1 to N, sizes of the sets.

        Returns:
            The pooled vectors (B, C) and the weights of the ranks (B, N).
        """
        weights = self.pool_weights(lengths, features.shape[1])
        pads = ~length_mask(lengths, features.shape[1])[..., None]
        ranked = features.masked_fill(pads, -torch.inf).sort(dim=1, descending=True).values
        ranked = ranked.masked_fill(pads, 0)
        return (ranked * weights[..., None]).sum(dim=1), weights
