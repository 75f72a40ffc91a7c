"""PDSL: instance segmentation from image-level tags.

Importing this package imports neither mmdet nor transformers. Its classes are registered with
MMEngine by :mod:`projects.pdsl.register`.
"""

from typing import Any

__all__ = ['WeakInstanceInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer and its dependencies on first access."""
    if name == 'WeakInstanceInferencer':
        from . import register  # noqa: F401  first, to silence the libraries' start-up messages
        from .inferencer import WeakInstanceInferencer

        return WeakInstanceInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
