"""Train in bfloat16 on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

__all__ = ['BFloat16OptimWrapper']


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Run the forward pass under autocast to bfloat16.

    Weights, gradients and optimizer states stay in float32. bfloat16 has the range of float32, so
    the loss needs no scaling. Unlike MMEngine's ``AmpOptimWrapper``, this works without a GPU. The
    arguments are those of ``OptimWrapper``.
    """

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast on the model's device.

        Args:
            model: The model being trained.
        """
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
