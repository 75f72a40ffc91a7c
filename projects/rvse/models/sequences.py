"""Masks, norms and padding for batches of sets of different sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.speed.transfer import to_device


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Return a mask (B, size), True in the first ``lengths[i]`` places of row i."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def l2norm(x: Tensor, dim: int = -1, eps: float = 1e-8) -> Tensor:
    """Compute x / (|x| + eps), the division used by all released models; a zero vector stays zero.

    The gradient at zero is zero: torch's norm has a subgradient there. Half precision is converted
    to float32, because ``eps`` is zero in float16.
    """
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + eps)


def pad_sets(sets: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack sets of vectors.

    Args:
        sets: (B, N, C), or B tensors (N_i, C).

    Returns:
        (B, N, C), zero beyond the end of a set, and the sizes (B,) int64.

    Raises:
        ValueError: A set is empty or not a matrix.
    """
    for i, item in enumerate(sets):
        if item.dim() != 2 or not len(item):
            raise InputError(
                f'inputs[{i}]: shape {tuple(item.shape)}, expected (N, C) with N of 1 or more'
            )
    if isinstance(sets, Tensor):
        return sets, torch.full((len(sets),), sets.shape[1], device=sets.device)
    sizes = to_device(torch.tensor([len(item) for item in sets]), sets[0].device)
    return torch.nn.utils.rnn.pad_sequence(list(sets), batch_first=True), sizes


def pad_ids(
    ids: Sequence[list[int]], padding: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return ids (B, L) and lengths (B,), both int64, which reach a GPU in one asynchronous copy.

    Args:
        ids: B lists.
        padding: Value beyond the end of a list.
        device: Device of the result.
    """
    size = max(map(len, ids))
    rows = torch.tensor([[len(row), *row, *[padding] * (size - len(row))] for row in ids])
    rows = to_device(rows, device)
    return rows[:, 1:], rows[:, 0]
