"""Which entry of a store belongs to an image, and whether the image is the one it was made for."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from projects.common.errors import InputError
from projects.common.files.image_reader import image_size

__all__ = [
    'KEYS',
    'ImageIdentity',
    'check_identity',
    'file_checksum',
    'names_of_image',
    'upright_size',
    'voc_name',
    'without_suffix',
]

KEYS = ('ids', 'names', 'paths')
"""What the names of a store may be: image ids, file names, or paths relative to a folder."""

_ORIENTATION = 0x0112  # EXIF tag


class ImageIdentity(NamedTuple):
    """Hold what a store knows of the image file that its proposals were made for.

    Attributes:
        height: Height of the upright image in pixels.
        width: Width of the upright image in pixels.
        checksum: :func:`file_checksum` of the file, or None if the file was not at hand.
    """

    height: int
    width: int
    checksum: int | None = None


def file_checksum(path: str | os.PathLike) -> int:
    """Return the CRC-32 of a file's content."""
    return zlib.crc32(Path(path).read_bytes())


def upright_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return height and width of an image after its EXIF rotation, from the header of the file.

    Raises:
        InputError: The file is not a readable image.
    """
    width, height = image_size(path)
    return height, width


def names_of_image(img_path: str | os.PathLike, keys: str | None = 'paths') -> Iterator[str]:
    """Yield the names that a store may have for a file, the most specific one first.

    Args:
        img_path: Path of the image as the user gave it. Links are not followed.
        keys: One of ``KEYS``. With 'names', only the file name counts; otherwise, all ends of the
            path do. Every name comes with the suffix of the file and without it.
    """
    path = os.path.abspath(img_path)
    stem = without_suffix(path)
    start = path.rfind('/') + 1 if keys == 'names' else 0
    yield from (path[start:], stem[start:])
    while (start := path.find('/', start) + 1) > 0:
        yield from (path[start:], stem[start:])


def without_suffix(name: str) -> str:
    """Return a file name or path without its suffix; digits such as '.01' are no suffix."""
    return re.sub(r'\.[A-Za-z][A-Za-z0-9]*$', '', name)


def voc_name(image_id: str) -> str:
    """Return VOC's name of an image whose id is an integer: '000012' of 12, for example.

    Ids of ten digits begin with the year, as in '2008_000002' of 2008000002.

    Raises:
        InputError: The id is neither.
    """
    if re.fullmatch(r'\d{1,6}', image_id):
        return image_id.zfill(6)
    if re.fullmatch(r'20\d{8}', image_id):
        return f'{image_id[:4]}_{image_id[4:]}'
    raise InputError(
        f'id {image_id!r}: expected an id of VOC as an integer, such as 12 or 2008000002'
    )


def check_identity(
    known: ImageIdentity,
    img_path: str | os.PathLike,
    shape: tuple[int, int] | None = None,
    *,
    what: str,
    content: bool = True,
) -> None:
    """Refuse an image other than the one that the proposals were made for.

    Args:
        known: What the store knows of its image.
        img_path: The image.
        shape: Height and width of the decoded image in pixels. If None, the size is read from the
            file, unless its checksum makes that unnecessary.
        what: The start of error messages: the store and the name of the entry.
        content: Whether to compare the content of the file, too.

    Raises:
        InputError: The image has another size or content.
    """
    is_file = os.path.isfile(img_path)
    content = content and known.checksum is not None and is_file
    if shape is None and not content and is_file:
        shape = upright_size(img_path)
    if shape is not None and tuple(shape) != known[:2]:
        raise InputError(
            f'{what} has the proposals of an image of {known.width} x {known.height} pixels, but '
            f'{img_path} has {shape[1]} x {shape[0]}'
        )
    if content and file_checksum(img_path) != known.checksum:
        raise InputError(
            f'{what} has the proposals of another image file than {img_path}, which has other '
            'content; make them again, or set check_content=False in LoadStoredProposals if this '
            'is the same image in another encoding'
        )
