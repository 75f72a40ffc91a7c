"""Validation of uploaded images and sentences: anything beyond the limits is refused."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from projects.common.errors import InputError
from projects.common.files.image_reader import as_rgb
from projects.common.files.images import check_size

__all__ = ['MAX_BYTES', 'MAX_SIDE', 'read_image', 'read_sentence']

FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF')
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
MIN_SIDE = 16  # pixels
MAX_ASPECT = 10
MAX_SIDE = 1024  # pixels; larger images are downscaled, because masks take memory per pixel
MAX_CHARACTERS = 200


def read_image(path: str | os.PathLike) -> Image.Image:
    """Read an upright RGB image of at most ``MAX_SIDE`` pixels a side from an untrusted file.

    Raises:
        InputError: It is not an image, damaged, or beyond the limits; the message shows no path.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f'The file has more than {MAX_BYTES // 2**20} MB.')
    try:
        width, height = check_size(path, MAX_PIXELS, FORMATS)
    except ValueError as error:
        if 'not readable' in str(error):
            raise InputError(
                f'This is no image that can be read. Expected: {", ".join(FORMATS)}.'
            ) from error
        raise InputError(
            f'The image is too large: expected at most {MAX_PIXELS // 10**6} million pixels '
            '(width times height). Please reduce it.'
        ) from error
    short, long = sorted((width, height))
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        raise InputError(
            f'The image has {width} x {height} pixels; expected at least {MIN_SIDE} a side, and '
            f'the longer side at most {MAX_ASPECT} times the shorter.'
        )
    try:
        with Image.open(path, formats=FORMATS) as image:
            picture = as_rgb(image)
    except ValueError as error:  # 32-bit values
        raise InputError(f'The image cannot be read: {error}.') from error
    except Exception as error:  # decoders raise almost any exception on damaged files
        raise InputError('The image is damaged or cut off: it cannot be decoded.') from error
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return picture


def read_sentence(text: object) -> str:
    """Return the words of a sentence, separated by single spaces.

    Raises:
        InputError: There are no words, or too many.
    """
    words = ' '.join(text.split()) if isinstance(text, str) else ''
    if not any(character.isalnum() for character in words):
        raise InputError('Please type a sentence.')
    if len(words) > MAX_CHARACTERS:
        raise InputError(
            f'The sentence has {len(words)} characters; expected at most {MAX_CHARACTERS}.'
        )
    return words
