"""Sizes of images as displayed, and their comparison with annotations."""

from __future__ import annotations

from typing import Any

from projects.common.files.image_reader import ImageError, image_size
from projects.common.files.images import image_problem

from .checks import Invalid

__all__ = ['check_image_size', 'read_image_size']


def check_image_size(annotated: tuple[Any, Any], found: tuple[int, int]) -> None:
    """Compare the (height, width) of an image with the annotated ones, which may be None.

    Raises:
        Invalid: If they differ.
    """
    if None not in annotated and annotated != found:
        raise Invalid(
            'width, height',
            f'an image of {annotated[1]}x{annotated[0]} pixels, as annotated',
            f'one of {found[1]}x{found[0]} pixels (EXIF orientation applied)',
            'wrong image size',
        )


def read_image_size(path: str, decode: bool = False) -> tuple[int, int]:
    """Read (height, width) of the image as displayed, from the file header alone.

    EXIF orientation is applied, as mmcv does when it reads the pixels: annotations of a photograph
    that is stored sideways refer to the upright image.

    Args:
        path: The image.
        decode: Also decode all pixels, which finds files that are cut off.

    Raises:
        Invalid: If the file is not a readable image.
    """
    problem = image_problem(path) if decode else None
    try:
        width, height = image_size(path)
    except (OSError, ImageError) as error:
        problem = str(error).removeprefix('image ')
    if problem is not None:
        raise Invalid('image', 'a readable image', problem, 'broken image')
    return height, width
