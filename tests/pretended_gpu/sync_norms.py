"""The values of SyncBatchNorm's operators, which PyTorch implements for GPUs alone.

All take and return tensors on the CPU. Channels are the second dimension of an input.
"""

from __future__ import annotations

import torch
from torch import Tensor


def by_channel(x: Tensor, like: Tensor) -> Tensor:
    return x.view(1, -1, *(1,) * (like.dim() - 2))


def over_samples(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x.float(), over_samples(x), correction=0)
    return mean, (variance + eps).rsqrt()


def gather_stats(
    x: Tensor,
    means: Tensor,
    factors: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Merge means and factors (processes, C) of parts of a batch with ``counts`` samples each."""
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0)
    variance = (share * (factors**-2 - eps + (means - mean) ** 2)).sum(0)
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.to(running_mean), momentum)
        unbiased = variance * counts.sum() / (counts.sum() - 1)
        running_var.lerp_(unbiased.to(running_var), momentum)
    return mean, (variance + eps).rsqrt()


def elemt(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, factor: Tensor, eps: float
) -> Tensor:
    found = (x - by_channel(mean, x)) * by_channel(factor, x)
    if weight is not None:
        found = found * by_channel(weight, x)
    return (found if bias is None else found + by_channel(bias, x)).to(x.dtype)


def backward_reduce(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    factor: Tensor,
    weight: Tensor | None,
    for_input: bool,
    for_weight: bool,
    for_bias: bool,
) -> tuple[Tensor | None, ...]:
    total = gradient.float().sum(over_samples(x))
    moved = (gradient * (x - by_channel(mean, x))).float().sum(over_samples(x))
    of_weight = (moved * factor).to(weight.dtype) if for_weight and weight is not None else None
    of_bias = total.to(weight.dtype) if for_bias and weight is not None else None
    return *((total, moved) if for_input else (None, None)), of_weight, of_bias


def backward_elemt(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    factor: Tensor,
    weight: Tensor | None,
    total: Tensor,
    moved: Tensor,
    counts: Tensor,
) -> Tensor:
    count = counts.sum()
    along = by_channel(factor**2 * moved / count, x) * (x - by_channel(mean, x))
    found = (gradient - by_channel(total / count, x) - along) * by_channel(factor, x)
    return (found if weight is None else found * by_channel(weight, x)).to(x.dtype)


OPERATORS = {
    'batch_norm_stats': stats,
    'batch_norm_gather_stats_with_counts': gather_stats,
    'batch_norm_elemt': elemt,
    'batch_norm_backward_reduce': backward_reduce,
    'batch_norm_backward_elemt': backward_elemt,
}
