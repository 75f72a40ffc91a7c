"""RVSE++ and SelHN: image-text matching.

Importing this package does not import mmdet or transformers. Its classes are registered with
MMEngine by :mod:`projects.rvse.register`.
"""

from typing import Any

__all__ = ['Reranker', 'RetrievalInferencer']


def __getattr__(name: str) -> Any:
    """Import an inferencer and its dependencies on first access."""
    if name in __all__:
        from . import register  # noqa: F401  imported first to silence the libraries
        from .inferencer import RetrievalInferencer
        from .retrieval.reranker import Reranker

        return {'Reranker': Reranker, 'RetrievalInferencer': RetrievalInferencer}[name]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
