"""Precision of matrix products: TF32 on a GPU, and bfloat16 for inference."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import nn

_MULTIPLYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)


def lower_precision(
    model: nn.Module, dtype: torch.dtype = torch.bfloat16
) -> tuple[nn.Module, Callable[[], AbstractContextManager]]:
    """Make a model multiply in reduced precision.

    The weights of linear layers, convolutions and attention are converted once, in place, so that
    autocast does not convert them at every call. Norms, embeddings and the sums of residual
    branches stay in float32.

    Args:
        model: The model. It is modified and can only be used for inference afterwards.
        dtype: The data type of the products.

    Returns:
        The model, and a function that creates the context to call it in.
    """
    for module in model.modules():
        if isinstance(module, _MULTIPLYING):
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
    device = next(model.parameters()).device.type
    return model, partial(torch.autocast, device, dtype)


def use_tf32(enabled: bool | None) -> None:
    """Choose whether a GPU computes float32 products in TF32, which has 10 bits of mantissa.

    Without a GPU this does nothing.

    Args:
        enabled: Whether matrix products and convolutions use TF32. None keeps PyTorch's choice,
            which is TF32 for convolutions alone.
    """
    if enabled is None or not torch.cuda.is_available():
        return
    torch.set_float32_matmul_precision('high' if enabled else 'highest')
    torch.backends.cudnn.allow_tf32 = enabled
