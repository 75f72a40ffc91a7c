"""Matrix products by the fastest library that a CPU has."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['FastLinear', 'linear', 'linear_minus', 'use_fast_linear']

# PyTorch gives products of float32 to MKL, which leaves AVX-512 unused on processors that are
# not Intel's: half the speed of oneDNN, whose kernel torch.compile calls by this operator.
_ONEDNN: Any = getattr(torch.ops.mkldnn, '_linear_pointwise', None)


def _onednn_serves(*tensors: Tensor | None) -> bool:
    if torch.compiler.is_compiling():
        return False  # graphs and exports know no such operator, and what follows would cut them
    given = [t for t in tensors if t is not None]
    return (
        _ONEDNN is not None
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and all(t.dtype == torch.float32 and t.device.type == 'cpu' and t.numel() for t in given)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in given))
        and not torch.is_autocast_enabled('cpu')
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in full float32; oneDNN computes it on a CPU where no gradient is needed.

    Args:
        x: (..., C).
        weight: (N, C).
        bias: (N,).

    Returns:
        (..., N).
    """
    if _onednn_serves(x, weight, bias):
        return _ONEDNN(x, weight, bias, 'none', [], '')
    return F.linear(x, weight, bias)


def linear_minus(x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
    """``F.linear(x, weight) - other``; one operation where oneDNN serves.

    Args:
        x: (M, C).
        weight: (N, C).
        other: (M, N).
    """
    if _onednn_serves(x, weight, other):
        return _ONEDNN.binary(x, other, weight, None, 'sub')
    return F.linear(x, weight) - other


class FastLinear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)


def use_fast_linear(module: nn.Module) -> None:
    """Makes every plain ``nn.Linear`` inside a module, a library's own too, a `FastLinear`."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = FastLinear
