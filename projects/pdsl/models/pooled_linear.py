"""A linear layer over RoI features, few of which are held at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: RoI features (n, D) of feature maps and of tensors with a row for each RoI.
Pool = Callable[..., Tensor]


def pooled_linear(
    pool: Pool,
    maps: Sequence[Tensor],
    rows: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    size: int,
) -> Tensor:
    """Compute ``F.linear(pool(maps, *rows), weight, bias)``, pooling ``size`` rows at a time.

    The backward pass pools them again and adds to one gradient of the weight; checkpoints of the
    parts would hold three, which for a layer of this size is more than what they save.

    Args:
        pool: Differentiable in the maps alone.
        maps: Feature maps (B, C, h, w).
        rows: Tensors (N, ...), of which ``pool`` gets the same rows.
        weight: (K, D).
        bias: (K,).
        size: Rows at a time, 1 or more.

    Returns:
        (N, K).
    """
    arguments = (pool, size, len(rows), weight, bias, *rows, *maps)
    return cast(Tensor, _PooledLinear.apply(*arguments))


class _PooledLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        pool: Pool,
        size: int,
        count: int,
        weight: Tensor,
        bias: Tensor | None,
        *rest: Tensor,
    ) -> Tensor:
        rows, maps = rest[:count], rest[count:]
        ctx.pool, ctx.size, ctx.count = pool, size, count
        ctx.save_for_backward(weight, *rest)
        parts = zip(*(each.split(size) for each in rows))
        return torch.cat([F.linear(pool(maps, *part), weight, bias) for part in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        weight, *rest = ctx.saved_tensors
        rows, maps = rest[: ctx.count], rest[ctx.count :]
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[3] else None
        of_maps: list[Tensor | None] = [None] * len(maps)
        for part in zip(*(each.split(ctx.size) for each in (grad, *rows))):
            of_part, asked = part[0], [each.detach() for each in maps]
            learnt = [i for i in range(len(maps)) if ctx.needs_input_grad[5 + ctx.count + i]]
            for i in learnt:
                asked[i].requires_grad_()
            with torch.enable_grad():
                pooled = ctx.pool(asked, *part[1:])
            if of_weight is not None:
                of_weight.addmm_(of_part.T.to(weight.dtype), pooled.detach().to(weight.dtype))
            if pooled.requires_grad:
                of_pooled = F.linear(of_part, weight.to(of_part.dtype).T).to(pooled.dtype)
                inputs = [asked[i] for i in learnt]
                found = torch.autograd.grad(pooled, inputs, of_pooled, allow_unused=True)
                for i, gradient in zip(learnt, found):
                    if gradient is not None:
                        before = of_maps[i]
                        of_maps[i] = gradient if before is None else before.add_(gradient)
        of_bias = grad.sum(0) if ctx.needs_input_grad[4] else None
        return (None, None, None, of_weight, of_bias, *[None] * ctx.count, *of_maps)
