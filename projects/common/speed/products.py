"""Compute matrix products with the fastest CPU library.

Models are plain PyTorch and multiply with ``nn.Linear`` and ``F.linear``. Within
:func:`fast_products`, which the tools and the inferencers put around a model, float32 ``F.linear``
runs in oneDNN if that is faster than MKL, PyTorch's default. Tracing, compiling, operation counting
and quantization see PyTorch's operators even within the context.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ['FastProducts', 'FastProductsHook', 'fast_products', 'linear', 'mkl_is_slow']

#: Set it to 0 to leave all products to PyTorch, or to 1 to use oneDNN on any CPU.
VARIABLE = 'MMTRIAD_FAST_PRODUCTS'

# PyTorch computes float32 products with MKL, which does not use AVX-512 on non-Intel processors and
# reaches half the speed of oneDNN. torch.compile calls oneDNN's kernel through this operator.
_ONEDNN: Any = getattr(torch.ops.mkldnn, '_linear_pointwise', None)

# With fewer multiplications, a call with gradients costs more than it saves.
_LARGE = 2**23


def _onednn_serves(*tensors: Tensor | None) -> bool:
    # Graphs, exports and operation counters do not know this operator.
    if (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack()
    ):
        return False
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
    """Add gradients to oneDNN's operator, which has none."""

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
    """Compute ``F.linear`` and its gradients with oneDNN if possible, else with PyTorch.

    Args:
        x: Input (..., C).
        weight: Weight (N, C).
        bias: Bias (N,).

    Returns:
        Output (..., N).
    """
    if not _onednn_serves(x, weight, bias):
        return F.linear(x, weight, bias)
    if not _needs_gradient(x, weight, bias):
        return _ONEDNN(x, weight, bias, 'none', [], '')
    if x.numel() * len(weight) < _LARGE:
        return F.linear(x, weight, bias)
    return cast(Tensor, _Linear.apply(x, weight, bias))


class FastProducts(TorchFunctionMode):
    """Redirect every ``F.linear``, including that of ``nn.Linear``, to :func:`linear`."""

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, or :func:`linear` in its place."""
        if func is F.linear:
            return linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=1)
def mkl_is_slow() -> bool:
    """Return whether MKL leaves this processor's AVX-512 units unused.

    MKL uses them only on Intel processors. Without AVX-512 the libraries are equally fast, and
    :class:`_Linear` would only cost time: 40 % of a training step of PLVL's quick start.
    """
    try:
        description = Path('/proc/cpuinfo').read_text()
    except OSError:  # not Linux
        return False
    return 'GenuineIntel' not in description and 'avx512f' in description


def fast_products(enabled: bool | None = None) -> contextlib.AbstractContextManager:
    """Return a context in which float32 products on a CPU use the fastest library.

    Args:
        enabled: Whether to use oneDNN. None uses it if there is no GPU and :func:`mkl_is_slow`. The
            environment variable ``MMTRIAD_FAST_PRODUCTS`` (0 or 1) takes precedence.
    """
    variable = os.environ.get(VARIABLE)
    if variable in ('0', '1'):
        enabled = variable == '1'
    if enabled is None:
        enabled = mkl_is_slow() and not torch.cuda.is_available()
    return FastProducts() if enabled else contextlib.nullcontext()


class FastProductsHook(Hook):
    """Run training, validation and testing within :func:`fast_products`.

    Args:
        enabled: See :func:`fast_products`.
    """

    priority = 'HIGHEST'

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = enabled
        self._context: contextlib.AbstractContextManager | None = None

    def before_run(self, runner: Any) -> None:
        """Enter the context, unless a failed run has left it open."""
        if self._context is None:
            self._context = fast_products(self.enabled)
            self._context.__enter__()

    def after_run(self, runner: Any) -> None:
        """Exit the context."""
        if self._context is not None:
            context, self._context = self._context, None
            context.__exit__(None, None, None)
