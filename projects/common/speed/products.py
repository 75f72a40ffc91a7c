"""Matrix products by the fastest library that a CPU has.

Models are plain PyTorch: they multiply with ``nn.Linear`` and ``F.linear``. Within
:func:`fast_products`, which the tools and the inferencers put around a model, ``F.linear`` of
float32 goes to oneDNN where that is faster than the MKL that PyTorch calls. Whatever traces,
compiles, counts or quantises a model sees PyTorch's operators, inside the context as well.
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

#: Setting it to 0 leaves all products to PyTorch, 1 takes oneDNN on any CPU.
VARIABLE = 'MMTRIAD_FAST_PRODUCTS'

# PyTorch gives products of float32 to MKL, which leaves AVX-512 unused on processors that are
# not Intel's: half the speed of oneDNN, whose kernel torch.compile calls by this operator.
_ONEDNN: Any = getattr(torch.ops.mkldnn, '_linear_pointwise', None)

# Below so many multiplications a call with gradients costs more than it saves.
_LARGE = 2**23


def _onednn_serves(*tensors: Tensor | None) -> bool:
    # Graphs, exports and counters of operations know no such operator.
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
    """Compute ``F.linear`` and its gradients with oneDNN where it can, else with PyTorch.

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


class FastProducts(TorchFunctionMode):
    """Send every ``F.linear``, that of ``nn.Linear`` too, through :func:`linear`."""

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
    """Return whether MKL leaves the vector units of this machine's processor unused.

    MKL takes its fastest path on Intel's processors alone.
    """
    try:
        return 'GenuineIntel' not in Path('/proc/cpuinfo').read_text()
    except OSError:  # not Linux
        return False


def fast_products(enabled: bool | None = None) -> contextlib.AbstractContextManager:
    """Return a context in which products of float32 on a CPU take the fastest library.

    Args:
        enabled: Whether to use oneDNN; None uses it where there is no GPU and
            :func:`mkl_is_slow`. The environment variable ``MMTRIAD_FAST_PRODUCTS`` (0 or 1)
            comes first.
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
        enabled: See there.
    """

    priority = 'HIGHEST'

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = enabled
        self._context: contextlib.AbstractContextManager | None = None

    def before_run(self, runner: Any) -> None:
        """Enter the context, unless a run that failed has left it open."""
        if self._context is None:
            self._context = fast_products(self.enabled)
            self._context.__enter__()

    def after_run(self, runner: Any) -> None:
        """Leave the context."""
        if self._context is not None:
            context, self._context = self._context, None
            context.__exit__(None, None, None)
