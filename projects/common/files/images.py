"""Find and check image files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log
from PIL import Image

from ..errors import InputError
from .image_reader import (
    MAX_PIXELS,
    ImageError,
    MissingImageError,
    decode_image,
    open_image,
    read_content,
)

__all__ = [
    'IMAGE_SUFFIXES',
    'check_size',
    'find_images',
    'image_problem',
    'naming_broken_image',
    'images_in',
]

IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.avif', '.heic',
    '.heif', '.jp2', '.pgm', '.ppm',
)  # fmt: skip


def find_images(folder: str | os.PathLike) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted by path.

    A file is an image if its suffix is in :data:`IMAGE_SUFFIXES`, even if it is damaged or a link
    to a missing file. Other files are counted in one line of the log.
    """
    files: list[Path] = []
    others: Counter[str] = Counter()
    for path in _files_below(Path(folder), frozenset()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files.append(path)
        else:
            others[path.suffix.lower() or 'no suffix'] += 1
    if others:
        counts = ', '.join(f'{suffix} {count:,}' for suffix, count in others.most_common(8))
        print_log(
            f'{folder}: {others.total():,} files are left out, because their names are not those '
            f'of images ({counts}{", ..." if len(others) > 8 else ""})',
            'current',
        )
    return sorted(files, key=lambda path: path.parts)  # the order of paths, but faster


def _files_below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back
        return
    with os.scandir(folder) as entries:  # knows which ones are folders, without a look at each
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir():
                yield from _files_below(path, above | {real})
            else:
                yield path


def images_in(folder: str | os.PathLike) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted by path.

    Raises:
        ValueError: The folder has no images.
    """
    files = find_images(folder)
    if not files:
        raise InputError(f'image folder {folder}: holds no image ({", ".join(IMAGE_SUFFIXES)})')
    return files


def image_problem(path: str) -> str | None:
    """Return why an image cannot be decoded completely, or None if it can."""
    try:
        decode_image(read_content(path), path, 'pillow', max_pixels=sys.maxsize)
    except (ImageError, MissingImageError) as error:
        return str(error).removeprefix(f'image {path}: ')
    except OSError as error:
        return str(error)
    return None


@contextlib.contextmanager
def naming_broken_image(path: str | None) -> Iterator[None]:
    """Replace errors raised inside the context by one that names the image, if it is broken.

    Args:
        path: The image, or None if there is none.

    Raises:
        ValueError: The image cannot be decoded.
    """
    try:
        yield
    except Exception as error:
        reason = None if path is None else image_problem(path)
        if reason is None:
            raise
        raise InputError(f'{path}: broken image: {reason}') from error


def check_size(
    path: str | os.PathLike, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None
) -> tuple[int, int]:
    """Read the (width, height) of an image in pixels from its header, without decoding more.

    Args:
        path: The file.
        max_pixels: Largest allowed product of width and height.
        formats: Allowed formats, by Pillow's names; see :func:`open_image`.

    Raises:
        ValueError: The file is not an image, or has too many pixels.
    """
    try:
        with open_image(path, formats) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise InputError(f'image {path}: {error}; expected at most {max_pixels:,}') from None
    except Exception as error:  # parsers raise almost any exception on damaged files
        raise InputError(f'image {path}: not readable ({type(error).__name__}: {error})') from error
    if width * height > max_pixels:
        raise InputError(
            f'image {path}: {width:,} x {height:,} pixels; expected at most {max_pixels:,} in all'
        )
    return width, height
