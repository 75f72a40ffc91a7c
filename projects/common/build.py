"""Build models from configs and unwrap them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import BaseAveragedModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

__all__ = ['build_quietly', 'copies_of', 'optim_wrappers', 'refresh_averages', 'unwrapped']


def build_quietly(model: ConfigDict, scope: str) -> nn.Module:
    """Build a model from its config without logging that its parts start from random weights.

    Args:
        model: Config of the model.
        scope: The ``default_scope`` in which names are looked up.
    """
    disabled = logging.root.manager.disable
    logging.disable(max(logging.INFO, disabled))
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(model)
    finally:
        logging.disable(disabled)


def unwrapped(model: nn.Module) -> Any:
    """Return the model inside a wrapper such as ``DistributedDataParallel``."""
    return model.module if is_model_wrapper(model) else model


def optim_wrappers(wrapper: Any) -> list[OptimWrapper]:
    """Return the optimizer wrappers of a runner: one, or those of an ``OptimWrapperDict``."""
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _models_of(runner: Any) -> Iterator[nn.Module]:
    """Iterate over a runner's model and the models held by its hooks, such as averaged ones."""
    yield runner.model
    for hook in getattr(runner, 'hooks', ()):
        yield from (value for value in vars(hook).values() if isinstance(value, nn.Module))


def copies_of(module: nn.Module, runner: Any) -> list[Any]:
    """Return all modules in a run that have the class of ``module``, including averaged models.

    Args:
        module: A module of the runner's model. It is part of the result.
        runner: The runner.
    """
    found = {
        id(part): part
        for model in _models_of(runner)
        for part in model.modules()
        if type(part) is type(module)
    }
    return list(found.values())


def refresh_averages(runner: Any) -> None:
    """Update averaged models to average their current state dicts.

    MMEngine's ``BaseAveragedModel(update_buffers=True)`` keeps the state dict from the time it was
    created, when the vocabulary may still have been empty.

    Args:
        runner: The runner whose hooks hold the averaged models.
    """
    for model in _models_of(runner):
        for part in model.modules():
            if isinstance(part, BaseAveragedModel) and part.update_buffers:
                part.avg_parameters = part.module.state_dict()
