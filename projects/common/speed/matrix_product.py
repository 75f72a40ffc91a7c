"""Matrix products by the fastest library that a CPU has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['FastLinear', 'linear', 'packed_linear', 'use_fast_linear']

# PyTorch gives products of float32 to MKL, which leaves AVX-512 unused on processors that are
# not Intel's: half the speed of oneDNN, whose kernel torch.compile calls by this operator.
_ONEDNN: Any = getattr(torch.ops.mkldnn, '_linear_pointwise', None)

# Below so many multiplications a call with gradients costs more than it saves.
_LARGE = 2**23


def _onednn_serves(*tensors: Tensor | None) -> bool:
    if torch.compiler.is_compiling():
        return False  # graphs and exports know no such operator, and what follows would cut them
    given = [t for t in tensors if t is not None]
    return (
        _ONEDNN is not None
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and all(t.dtype == torch.float32 and t.device.type == 'cpu' and t.numel() for t in given)
        and not torch.is_autocast_enabled('cpu')
        and not torch._C._are_functorch_transforms_active()
    )


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


class _Linear(torch.autograd.Function):
    """oneDNN's operator, which knows no gradients, with those of its arguments."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _ONEDNN(x, weight, bias, 'none', [], '')

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            linear(grad, weight.T) if of_x else None,
            linear(rows.T, x.reshape(-1, x.shape[-1]).T) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in full float32; on a CPU oneDNN computes it and its gradients.

    Args:
        x: (..., C).
        weight: (N, C).
        bias: (N,).

    Returns:
        (..., N).
    """
    if not _onednn_serves(x, weight, bias):
        return F.linear(x, weight, bias)
    if not _needs_gradient(x, weight, bias):
        return _ONEDNN(x, weight, bias, 'none', [], '')
    if x.numel() * len(weight) < _LARGE:
        return F.linear(x, weight, bias)
    return cast(Tensor, _Linear.apply(x, weight, bias))


def packed_linear(
    weight: Tensor, bias: Tensor | None = None, rows: int = 512
) -> Callable[[Tensor], Tensor]:
    """:func:`linear` by one weight, laid out once for all calls as oneDNN's kernel wants it.

    Args:
        weight: (N, C).
        bias: (N,).
        rows: About how many rows a call has.

    Returns:
        A function of x (..., C), giving (..., N). It keeps the weight as it was.
    """
    if not _onednn_serves(weight, bias) or _needs_gradient(weight, bias):
        return lambda x: linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)

    def product(x: Tensor) -> Tensor:
        if _onednn_serves(x) and not _needs_gradient(x, weight, bias):
            return _ONEDNN(x, packed, bias, 'none', [], '')
        return linear(x, weight, bias)

    return product


class FastLinear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)

    def packed(self, rows: int) -> Callable[[Tensor], Tensor]:
        """The layer for many calls of about so many rows; see :func:`packed_linear`."""
        return packed_linear(self.weight, self.bias, rows)


def use_fast_linear(module: nn.Module) -> None:
    """Makes every plain ``nn.Linear`` inside a module, a library's own too, a `FastLinear`."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = FastLinear
