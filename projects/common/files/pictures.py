"""Picture files: which there are, why one cannot be read, and what they show."""

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
MAX_PIXELS = 89_478_485  # from here on Pillow, too, suspects a decompression bomb


def pictures_in(folder: str | os.PathLike) -> list[Path]:
    """The picture files in a folder, by name.

    Raises:
        ValueError: There is none.
    """
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise InputError(f'image folder {folder}: holds no picture ({", ".join(PICTURE_SUFFIXES)})')
    return files


def read_image(path: str | os.PathLike, flag: str = 'color') -> np.ndarray | None:
    """``mmcv.imread``; None for what is no image, an empty file too, where OpenCV raises."""
    import cv2
    import mmcv

    try:
        return mmcv.imread(path, flag=flag)
    except cv2.error:
        return None


def image_problem(path: str) -> str | None:
    """Why the picture cannot be decoded to its last pixel, or None if it can."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # decoders raise almost any exception on damaged files
        return f'{type(error).__name__}: {error}'
    return None


@contextlib.contextmanager
def naming_broken_picture(path: str | None) -> Iterator[None]:
    """Turns an error inside into one that names the picture, where the picture is its reason.

    Args:
        path: The picture; None where there is none.

    Raises:
        ValueError: The picture cannot be decoded.
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
    """The (width, height) in pixels that a picture's header states; nothing more is decoded.

    Args:
        path: The file.
        max_pixels: Largest width times height.
        formats: Pillow's names of those that may be; None for all that it knows.

    Raises:
        ValueError: It is no picture, or a larger one.
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
    """What a viewer shows of a picture: upright, 8 bits a channel, on white where transparent.

    Of an animation that is its current frame, the first one after opening.

    Raises:
        ValueError: Its values are 32-bit, whose white nothing states.
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
