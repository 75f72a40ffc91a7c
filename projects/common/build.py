"""Models: built from configs whose weights follow, and taken out of their wrappers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import BaseAveragedModel, is_model_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

__all__ = ['build_quietly', 'copies_of', 'refresh_averages', 'unwrapped']


def build_quietly(model: ConfigDict, scope: str) -> nn.Module:
    """A model of its config, without the notes that its parts start from random weights.

    Args:
        model: Config of the model.
        scope: The ``default_scope`` to look names up in.
    """
    disabled = logging.root.manager.disable
    logging.disable(max(logging.INFO, disabled))
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(model)
    finally:
        logging.disable(disabled)


def unwrapped(model: nn.Module) -> Any:
    """The model itself, out of a wrapper such as DistributedDataParallel."""
    return model.module if is_model_wrapper(model) else model


def _models_of(runner: Any) -> Iterator[nn.Module]:
    """Iterate over a runner's model and the models that its hooks hold, averaged ones for one."""
    yield runner.model
    for hook in getattr(runner, 'hooks', ()):
        yield from (value for value in vars(hook).values() if isinstance(value, nn.Module))


def copies_of(module: nn.Module, runner: Any) -> list[Any]:
    """Return all modules of the class of ``module`` in a run, in averaged models as well.

    Args:
        module: Some part of the runner's model; it is among those returned.
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
    """Make averaged models average what their state dicts have now.

    MMEngine's ``BaseAveragedModel(update_buffers=True)`` keeps the state dict of its first moment,
    whose vocabulary may have been empty.

    Args:
        runner: The runner, whose hooks hold the averaged models.
    """
    for model in _models_of(runner):
        for part in model.modules():
            if isinstance(part, BaseAveragedModel) and part.update_buffers:
                part.avg_parameters = part.module.state_dict()
