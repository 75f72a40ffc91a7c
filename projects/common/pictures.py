"""Picture files: which there are, and why one cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

__all__ = ['PICTURE_SUFFIXES', 'image_problem', 'pictures_in']

PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def pictures_in(folder: str | os.PathLike) -> list[Path]:
    """The picture files in a folder, by name.

    Raises:
        ValueError: There is none.
    """
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise ValueError(f'image folder {folder}: holds no picture ({", ".join(PICTURE_SUFFIXES)})')
    return files


def image_problem(path: str) -> str | None:
    """Why the picture cannot be decoded to its last pixel, or None if it can."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # decoders raise almost any exception on damaged files
        return f'{type(error).__name__}: {error}'
    return None
