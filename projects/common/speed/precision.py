"""Run inference in reduced precision."""

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
