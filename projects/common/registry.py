"""MMEngine's model registry, or a stand-in if MMEngine is not installed.

With it, the losses of :mod:`projects.rvse.losses` need only PyTorch.
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
        """Leave classes unregistered."""

        @staticmethod
        def register_module(*args: Any, **kwargs: Any) -> Callable[[type], type]:
            """Return a decorator that returns the class unchanged."""
            return lambda cls: cls

    MODELS = _NoRegistry()


def log_warning(message: str) -> None:
    """Log a warning to MMEngine's current logger, or to Python's if MMEngine is not installed."""
    try:
        from mmengine.logging import print_log
    except ModuleNotFoundError:
        logging.getLogger('projects').warning(message)
    else:
        print_log(message, logger='current', level=logging.WARNING)
