"""Give a random backbone features with the scale of a pretrained backbone."""

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

#: Mean and standard deviation of res5 of the released ResNet-18, for images as PDSL reads them.
RELEASED_RESNET18 = (1.06, 1.32)


class LikePretrained:
    """Give the outputs of a random module the statistics of a pretrained module.

    A recipe that starts from pretrained weights cannot be judged with a random backbone. If its
    batch normalization is frozen, the features of a random ResNet are larger by orders of
    magnitude, and so are all losses and gradients computed from them. They also vary more between
    channels than between positions, so that all proposals look alike.

    In a pretrained network, the running statistics fit the activations. The first batch therefore
    sets the running statistics to its own. Then each output is multiplied by a factor and shifted
    by an offset to obtain the given mean and standard deviation. All of these values stay fixed
    after the first batch, so that the module remains a single differentiable function of its
    weights. Outputs that are never negative, such as those of a ReLU, stay nonnegative.

    Args:
        module: The backbone. Its output is a tensor or a list, tuple or dict of tensors; integer
            tensors are not changed.
        mean: Mean over all elements of an output for the first batch.
        std: Standard deviation over all elements of an output for the first batch.

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
        """Stop changing the outputs; the running statistics stay."""
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
    """Set the running statistics of all batch normalization layers to those of one batch.

    Args:
        module: A module with batch normalization layers.
        *args: The batch, as positional arguments of ``forward``.
        **kwargs: The batch, as keyword arguments of ``forward``.

    Returns:
        Whether there was anything to set.
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
            layer.momentum = None  # average over all batches, here a single one
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
    """Train with :class:`LikePretrained` on the model's backbone.

    This lets you examine a recipe when its pretrained weights are not available::

        custom_hooks = [dict(type='LikePretrainedHook')]

    Args:
        mean: See :class:`LikePretrained`; the default is that of the released ResNet-18.
        std: See :class:`LikePretrained`; the default is that of the released ResNet-18.
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
        """Rescale the outputs from the first batch on."""
        model = unwrapped(runner.model)
        try:
            module = model.get_submodule(self.module)
        except AttributeError:
            raise InputError(
                f'LikePretrainedHook.module: {type(model).__name__} has no {self.module!r}; '
                f'expected one of {", ".join(name for name, _ in model.named_children())}'
            ) from None
        LikePretrained(module, self.mean, self.std)
