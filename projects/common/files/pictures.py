"""Find, check and decode image files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError

__all__ = [
    'MAX_PIXELS',
    'PICTURE_SUFFIXES',
    'as_rgb',
    'check_size',
    'image_problem',
    'naming_broken_picture',
    'pictures_in',
    'read_image',
]

PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
MAX_PIXELS = 89_478_485  # Pillow suspects a decompression bomb above the same limit


def pictures_in(folder: str | os.PathLike) -> list[Path]:
    """Return the image files in a folder, sorted by name.

    Raises:
        ValueError: The folder has no images.
    """
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise InputError(f'image folder {folder}: holds no picture ({", ".join(PICTURE_SUFFIXES)})')
    return files


def read_image(path: str | os.PathLike, flag: str = 'color') -> np.ndarray | None:
    """Call ``mmcv.imread``, and return None for files that are empty or not images.

    OpenCV raises an error for empty files.
    """
    import cv2
    import mmcv

    try:
        return mmcv.imread(path, flag=flag)
    except cv2.error:
        return None


def image_problem(path: str) -> str | None:
    """Return why an image cannot be decoded completely, or None if it can."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # decoders raise almost any exception on damaged files
        return f'{type(error).__name__}: {error}'
    return None


@contextlib.contextmanager
def naming_broken_picture(path: str | None) -> Iterator[None]:
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
        formats: Allowed formats, by Pillow's names; None allows all formats that Pillow knows.

    Raises:
        ValueError: The file is not an image, or has too many pixels.
    """
    try:
        with Image.open(path, formats=formats) as image:
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


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB as a viewer shows it: upright, 8 bits per channel, on white.

    Transparent pixels become white. For an animation, the current frame is used, which is the first
    one after opening.

    Raises:
        ValueError: The image has 32-bit values, for which no white point is defined.
    """
    if image.mode in ('I', 'F'):
        raise InputError(f'image of mode {image.mode!r}: expected 8 or 16 bits a channel')
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # Pillow would clip to 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')
