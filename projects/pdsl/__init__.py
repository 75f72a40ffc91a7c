"""PDSL: instance segmentation from image-level tags.

Importing this package imports neither mmdet nor transformers. Its classes are registered with
MMEngine by :mod:`projects.pdsl.register`.
"""

from typing import Any

__all__ = ['WeakInstanceInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer, and all that it needs, when it is asked for."""
    if name == 'WeakInstanceInferencer':
        from . import register  # noqa: F401  first: it keeps the libraries' announcements quiet
        from .inferencer import WeakInstanceInferencer

        return WeakInstanceInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
