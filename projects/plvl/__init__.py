"""PLVL: multi-task visual grounding (REC and RES).

Importing this package imports neither mmdet nor transformers. :mod:`projects.plvl.register`
registers its classes with MMEngine.
"""

from typing import Any

__all__ = ['GroundingInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer and its dependencies on first access."""
    if name == 'GroundingInferencer':
        from . import register  # noqa: F401  import first to silence library messages
        from .inferencer import GroundingInferencer

        return GroundingInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
