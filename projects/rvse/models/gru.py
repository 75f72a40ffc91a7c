"""A GRU over sequences of different lengths."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ['gru_as_operator', 'is_operator', 'run_gru']

_ROWS = 112  # number of sequences padded together
_NAMES = ('weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0')
_OPERATOR: ContextVar[bool] = ContextVar('operator', default=False)


@contextlib.contextmanager
def gru_as_operator() -> Iterator[None]:
    """Make :func:`run_gru` one operator of traced graphs, ``mmtriad::gru``, for any length.

    PyTorch traces a GRU as its steps, so that a graph has the length of the example.
    """
    token = _OPERATOR.set(True)
    try:
        yield
    finally:
        _OPERATOR.reset(token)


def is_operator() -> bool:
    """Return whether a graph is traced within :func:`gru_as_operator`."""
    # torch.compile cannot trace a ContextVar; exports are traced without it
    return not torch.compiler.is_dynamo_compiling() and _OPERATOR.get()


def run_gru(rnn: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """Run a single-layer GRU over the first ``lengths[i]`` vectors of every row.

    Training on a CPU avoids packed sequences. PyTorch's kernel takes a view of the packed input in
    every step, and the gradient of each view is as large as the whole input, so the backward pass
    is quadratic in the length. Padded sequences give the same numbers. Exported graphs do not
    support packed sequences either.

    Args:
        rnn: A GRU with ``batch_first``, biases, one layer, and one or both directions.
        x: (B, L, C_in). Values beyond the length of a sequence are ignored.
        lengths: (B,) int64 from 1 to L, in any order.

    Returns:
        Hidden states (B, L, C), or (B, L, 2 * C) for the forward and the backward direction, zero
        beyond the length of a sequence.
    """
    if is_operator():
        return gru_operator(x, lengths, _weights(rnn), rnn.hidden_size)
    if torch.compiler.is_compiling():
        return _hidden(x, lengths, _weights(rnn), rnn.training)
    if x.device.type != 'cpu' or not torch.is_grad_enabled():
        order = lengths.argsort(descending=True)
        # The host waits once: PyTorch packs by lengths that it knows.
        on_host = lengths.index_select(0, order).cpu()
        packed = pack_padded_sequence(x.index_select(0, order), on_host, batch_first=True)
        padded = pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        return padded.index_select(0, order.argsort())
    order = lengths.argsort(descending=True)
    hidden = []
    for rows in order.split(_ROWS):  # similar lengths, so that there is little padding
        size = int(lengths[rows].max())
        states = _hidden(x[rows, :size], lengths[rows], _weights(rnn), rnn.training)
        hidden.append(F.pad(states, (0, 0, 0, x.shape[1] - size)))
    return torch.cat(hidden)[order.argsort()]


@torch.library.custom_op('mmtriad::gru', mutates_args=())
def gru_operator(x: Tensor, lengths: Tensor, weights: list[Tensor], hidden: int) -> Tensor:
    """Compute what :func:`run_gru` does.

    Args:
        x: (B, L, C_in).
        lengths: (B,) int64.
        weights: Input and hidden weights and their biases, of one or both directions.
        hidden: C, the size of the hidden state.

    Returns:
        (B, L, C) or (B, L, 2 * C).
    """
    return _hidden(x, lengths, weights, training=False)


@gru_operator.register_fake
def _(x: Tensor, lengths: Tensor, weights: list[Tensor], hidden: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], hidden * (len(weights) // 4))


def _weights(rnn: nn.GRU) -> list[Tensor]:
    """Return four tensors for each direction."""
    suffixes = ('', '_reverse') if rnn.bidirectional else ('',)
    return [getattr(rnn, name + suffix) for suffix in suffixes for name in _NAMES]


def _hidden(x: Tensor, lengths: Tensor, weights: list[Tensor], training: bool) -> Tensor:
    step = torch.arange(x.shape[1], device=x.device)
    inside = step < lengths[:, None]
    forward = _one_direction(x, weights[:4], training)
    if len(weights) == 4:
        return forward * inside[..., None]
    # Reverse every sequence; its padding stays at the end.
    mirror = torch.where(inside, lengths[:, None] - 1 - step, step)[..., None]
    backward = _one_direction(x.gather(1, mirror.expand_as(x)), weights[4:], training)
    backward = backward.gather(1, mirror.expand_as(backward))
    return torch.cat([forward, backward], dim=-1) * inside[..., None]


def _one_direction(x: Tensor, weights: list[Tensor], training: bool) -> Tensor:
    """Compute the hidden states (B, L, C) of one direction, from left to right."""
    start = x.new_zeros(1, x.shape[0], weights[1].shape[1])  # len() would fix a graph's size
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    return torch.gru(x, start, weights, True, 1, 0.0, training, False, True)[0]
