"""MMEngine's registry of models, or a stand-in where MMEngine is not installed.

The losses of :mod:`projects.rvse.losses` are usable with PyTorch alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

__all__ = ['MODELS', 'log_warning']

try:
    from mmengine.registry import MODELS
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise

    class _NoRegistry:
        """Leave classes as they are."""

        @staticmethod
        def register_module(*args: Any, **kwargs: Any) -> Callable[[type], type]:
            """Return a decorator that returns its class."""
            return lambda cls: cls

    MODELS = _NoRegistry()


def log_warning(message: str) -> None:
    """Write a warning to MMEngine's current logger, to Python's where MMEngine is not installed."""
    try:
        from mmengine.logging import print_log
    except ModuleNotFoundError:
        logging.getLogger('projects').warning(message)
    else:
        print_log(message, logger='current', level=logging.WARNING)
