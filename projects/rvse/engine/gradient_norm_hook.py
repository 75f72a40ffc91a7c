"""A hook that logs the gradient norm of the first layer, as in Figures 3b and 5b."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from projects.common.build import unwrapped
from projects.common.errors import InputError

__all__ = ['GradientNormHook']


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Log ``fc_grad_norm``, the norm of the gradient of one parameter before clipping.

    Gradients are read when they are accumulated, because the optimizer wrapper has cleared them by
    the end of the iteration. The loss scale of mixed precision is divided out. With several
    processes, the norm is that of the first one's share of the batch.

    Args:
        parameter: Name of the parameter. The default is the first linear layer of the image
            encoder.

    Raises:
        ValueError: The model has no such parameter or does not train it.
    """

    priority = 'HIGHEST'  # runs before RuntimeInfoHook logs the outputs

    def __init__(self, parameter: str = 'image_encoder.fc.weight') -> None:
        self.parameter = parameter
        self._norm: Tensor | None = None
        self._handle = None

    def before_train(self, runner) -> None:
        """Register a hook on the gradient of the parameter.

        Raises:
            ValueError: The model has no such parameter or does not train it.
        """
        model = unwrapped(runner.model)
        parameters = dict(model.named_parameters())
        if self.parameter not in parameters or not parameters[self.parameter].requires_grad:
            raise InputError(
                f'GradientNormHook: parameter={self.parameter!r}, '
                f'which {type(model).__name__} does not train'
            )

        def keep(parameter: Any) -> None:
            scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
            scale = scaler.get_scale() if scaler is not None else 1.0
            self._norm = torch.linalg.vector_norm(parameter.grad.detach().float()) / scale

        self._handle = parameters[self.parameter].register_post_accumulate_grad_hook(keep)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Add the norm to the ``outputs`` of the iteration."""
        if self._norm is not None and outputs is not None:
            outputs['fc_grad_norm'] = self._norm
            self._norm = None

    def after_train(self, runner) -> None:
        """Remove the hook from the parameter."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
