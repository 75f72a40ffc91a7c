"""Models: built from configs whose weights follow, and taken out of their wrappers."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

__all__ = ['build_quietly', 'unwrapped']


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
