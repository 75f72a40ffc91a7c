"""Sizes and checksums of images that are at hand when proposals of other formats are converted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from projects.common.errors import InputError
from projects.common.files.annotation_files import NUMBER, by_id, check_fields, read_json

from .identity import (
    ImageIdentity,
    file_checksum,
    names_of_image,
    upright_size,
    without_suffix,
)
from .images import list_images

__all__ = ['file_finder', 'identify_in_folder', 'identify_in_json']


def identify_in_json(path: Path, keys: str | None) -> Callable[[str], ImageIdentity | None]:
    """Return a function from the names of a store to the sizes that a COCO json states.

    Args:
        path: The file.
        keys: What the names of the store are, one of
            :data:`~projects.pdsl.proposals.identity.KEYS`.

    Raises:
        InputError: The file has no list of images with sizes.
    """
    content = read_json(path)
    check_fields(content, str(path), images=list)
    images = by_id(content, 'images', str(path), file_name=str, height=NUMBER, width=NUMBER)
    sizes = {
        str(key): ImageIdentity(int(each['height']), int(each['width']))
        for key, each in images.items()
    }
    if keys == 'ids':
        return sizes.get
    by_file = dict(zip((each['file_name'] for each in images.values()), sizes.values()))
    find = file_finder({file: file for file in by_file}, keys)
    return lambda name: by_file.get(find(name) or '')


def identify_in_folder(folder: Path, keys: str | None) -> Callable[[str], ImageIdentity | None]:
    """Return a function from the names of a store to sizes and checksums of the images in a folder.

    An image is read when it is asked for.

    Args:
        folder: The folder.
        keys: What the names of the store are, one of
            :data:`~projects.pdsl.proposals.identity.KEYS`.

    Raises:
        InputError: The names are ids, which a folder does not have.
    """
    if keys == 'ids':
        raise InputError(
            f'{folder}: a folder of images does not say their ids; give the COCO json that does'
        )
    find = file_finder(
        {os.path.relpath(path, folder): path for path in list_images(folder).values()}, keys
    )

    def identify(name: str) -> ImageIdentity | None:
        path = find(name)
        return None if path is None else ImageIdentity(*upright_size(path), file_checksum(path))

    return identify


def file_finder(files: Mapping[str, str], keys: str | None) -> Callable[[str], str | None]:
    """Return a function from the names of a store to files.

    Args:
        files: Paths of the files, by what a store of paths would call them.
        keys: What the names of the store are.
    """
    ends: dict[str, set[str]] = {}
    for path in files.values():
        for name in names_of_image(path, keys):
            ends.setdefault(name, set()).add(path)
    exact = {without_suffix(name): path for name, path in files.items()}
    exact.update(files)

    def find(name: str) -> str | None:
        if keys != 'names' and name in exact:
            return exact[name]
        found = sorted(ends.get(name, ()))
        if len(found) > 1:
            raise InputError(f'{name!r} may be {found[0]} or {found[1]}; expected one image')
        return found[0] if found else None

    return find
