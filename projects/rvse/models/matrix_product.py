"""Matrix products by the fastest library that a CPU has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# PyTorch gives products of float32 to MKL, which leaves AVX-512 unused on processors that are
# not Intel's: half the speed of oneDNN, whose kernel torch.compile calls by this operator.
_ONEDNN = getattr(torch.ops.mkldnn, '_linear_pointwise', None)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in full float32; oneDNN computes it on a CPU where no gradient is needed.

    Args:
        x: (..., C).
        weight: (N, C).
        bias: (N,).

    Returns:
        (..., N).
    """
    inputs = [t for t in (x, weight, bias) if t is not None]
    if (
        _ONEDNN is not None
        and torch.backends.mkldnn.is_available()
        and all(t.dtype == torch.float32 and t.device.type == 'cpu' and t.numel() for t in inputs)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in inputs))
    ):
        return _ONEDNN(x, weight, bias, 'none', [], '')
    return F.linear(x, weight, bias)


class FastLinear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
