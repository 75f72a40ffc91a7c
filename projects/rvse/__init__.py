"""RVSE++ and SelHN: image-text matching.

Importing this package does not import mmdet or transformers. Its classes are registered with
MMEngine by :mod:`projects.rvse.register`.
"""

from typing import Any

__all__ = ['RetrievalInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer and its dependencies on first access."""
    if name == 'RetrievalInferencer':
        from . import register  # noqa: F401  imported first to silence the libraries
        from .inferencer import RetrievalInferencer

        return RetrievalInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
