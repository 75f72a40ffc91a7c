"""Give a random backbone features of the scale that a pretrained one has."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..build import unwrapped
from ..errors import InputError

__all__ = ['RELEASED_RESNET18', 'LikePretrained', 'LikePretrainedHook', 'fit_batch_norm']

#: Mean and standard deviation of res5 of the released ResNet-18 (images as PDSL reads them).
RELEASED_RESNET18 = (1.06, 1.32)


class LikePretrained:
    """Give the outputs of a random module the statistics of a pretrained one's.

    A recipe that starts from pretrained weights cannot be judged on a random backbone. Where its
    batch normalization is fixed, the features of a random ResNet are larger by orders of magnitude,
    and every loss and gradient computed from them follows. They also differ between channels more
    than between positions, so that all proposals look alike. In a pretrained network the running
    statistics fit the activations: on the first batch, they are set to those of this batch. Then
    each output gets a factor and an offset that bring it to the given mean and standard deviation.
    All of this stays as the first batch made it, so that the module remains one differentiable
    function of its weights. Outputs that are never negative, as after a ReLU, stay so.

    Args:
        module: The backbone. Its output is a tensor or a list, tuple or dict of tensors; integer
            tensors are left alone.
        mean: The mean over all elements of an output of the first batch.
        std: The standard deviation over the same.

    Raises:
        ValueError: ``std`` is not positive.
    """

    def __init__(self, module: nn.Module, mean: float, std: float) -> None:
        if not std > 0:
            raise InputError(f'like pretrained: standard deviation {std}; expected more than 0')
        self.mean, self.std = mean, std
        self._affine: dict[tuple, tuple[Tensor, Tensor, bool]] = {}
        self._handle = module.register_forward_hook(self._rescale, with_kwargs=True)

    def remove(self) -> None:
        """Leave the outputs alone from now on; running statistics stay."""
        self._handle.remove()

    def _rescale(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if not self._affine and fit_batch_norm(module, *args, **kwargs):
            output = module.forward(*args, **kwargs)
        return self._walk(output, ())

    def _walk(self, output: Any, place: tuple) -> Any:
        if isinstance(output, Tensor):
            return self._one(output, place) if output.is_floating_point() else output
        if isinstance(output, dict):
            return type(output)({k: self._walk(v, (*place, k)) for k, v in output.items()})
        if isinstance(output, (list, tuple)):
            return type(output)([self._walk(v, (*place, i)) for i, v in enumerate(output)])
        return output

    def _one(self, x: Tensor, place: tuple) -> Tensor:
        if place not in self._affine:
            with torch.no_grad():
                known = x.detach().float()
                factor = self.std / known.std().clamp(min=1e-12)
                offset = self.mean - factor * known.mean()
                self._affine[place] = (factor, offset, bool((known >= 0).all()))
        factor, offset, rectified = self._affine[place]
        x = x * factor.to(x.dtype) + offset.to(x.dtype)
        return x.relu() if rectified else x


@torch.no_grad()
def fit_batch_norm(module: nn.Module, *args: Any, **kwargs: Any) -> bool:
    """Set the running statistics of all batch normalization to those of one batch.

    Args:
        module: A module that normalizes over batches somewhere.
        *args: The batch, as its ``forward`` takes it.
        **kwargs: The same.

    Returns:
        Whether there is anything to set.
    """
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
        and layer.track_running_stats
        and not isinstance(layer, nn.SyncBatchNorm)
    ]
    before = [(layer.training, layer.momentum) for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean of all batches, of which there is one
            layer.train()
        if layers:
            module.forward(*args, **kwargs)
    finally:
        for layer, (training, momentum) in zip(layers, before):
            layer.train(training)
            layer.momentum = momentum
    return bool(layers)


@HOOKS.register_module()
class LikePretrainedHook(Hook):
    """Train with :class:`LikePretrained` around the model's backbone.

    Serves to look at a recipe where its pretrained weights are not at hand::

        custom_hooks = [dict(type='LikePretrainedHook')]

    Args:
        mean: See :class:`LikePretrained`; the default is that of the released ResNet-18.
        std: See :class:`LikePretrained`; the same.
        module: Name of the module within the model.

    Raises:
        ValueError: The model has no such module.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        mean: float = RELEASED_RESNET18[0],
        std: float = RELEASED_RESNET18[1],
        module: str = 'backbone',
    ) -> None:
        self.mean, self.std, self.module = mean, std, module

    def before_train(self, runner) -> None:
        """Rescale from the first batch on."""
        model = unwrapped(runner.model)
        try:
            module = model.get_submodule(self.module)
        except AttributeError:
            raise InputError(
                f'LikePretrainedHook.module: {type(model).__name__} has no {self.module!r}; '
                f'expected one of {", ".join(name for name, _ in model.named_children())}'
            ) from None
        LikePretrained(module, self.mean, self.std)
