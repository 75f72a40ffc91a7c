"""RVSE++ and SelHN: image-text matching.

Importing this package imports neither mmdet nor transformers. Its classes are registered with
MMEngine by :mod:`projects.rvse.register`.
"""

from typing import Any

__all__ = ['RetrievalInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer, and all that it needs, when it is asked for."""
    if name == 'RetrievalInferencer':
        from . import register  # noqa: F401  first: it keeps the libraries' announcements quiet
        from .inferencer import RetrievalInferencer

        return RetrievalInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
