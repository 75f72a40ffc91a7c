"""PLVL: multi-task visual grounding (REC and RES).

Importing this package imports neither mmdet nor transformers. Its classes are registered with
MMEngine by :mod:`projects.plvl.register`.
"""

from typing import Any

__all__ = ['GroundingInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer, and all that it needs, when it is asked for."""
    if name == 'GroundingInferencer':
        from . import register  # noqa: F401  first: it keeps the libraries' announcements quiet
        from .inferencer import GroundingInferencer

        return GroundingInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
