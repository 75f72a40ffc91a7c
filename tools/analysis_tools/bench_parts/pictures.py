"""Photographs that every installation has."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

__all__ = ['photographs']


def photographs() -> list[Path]:
    """scikit-learn's two, 640 x 427 pixels."""
    folder = files('sklearn.datasets') / 'images'
    with as_file(folder) as path:
        return sorted(Path(path).glob('*.jpg'))
