"""Photographs available in every installation."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

__all__ = ['photographs']


def photographs() -> list[Path]:
    """Return the paths of scikit-learn's two photographs, 640 x 427 pixels."""
    folder = files('sklearn.datasets') / 'images'
    with as_file(folder) as path:
        return sorted(Path(path).glob('*.jpg'))
