"""Keys of mmdet's proposal files: the last folder and the name of an image's file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from projects.common.errors import InputError
from projects.common.files.annotation_files import by_id, read_json

from .identity import without_suffix
from .images import list_images
from .known_images import file_finder

__all__ = ['mmdet_keys']


def mmdet_keys(
    images: Path | None, keys: str | None, folder: str | None = None
) -> Callable[[str], str]:
    """Return a function from the names of a store to mmdet's keys, such as 'val2017/000139.jpg'.

    They are those that mmdet's ``BaseDetDataset.load_proposals`` and ``DumpProposals`` use.

    Args:
        images: Folder of the images, or COCO json that lists them; None if the names are paths of
            files with a folder.
        keys: What the names are, one of :data:`~projects.pdsl.proposals.identity.KEYS`.
        folder: Name of the last folder of the images, for a json that lists only file names.

    Raises:
        InputError: The names are ids, and no json says whose. The function raises it if it finds no
            file of a name, or does not know its folder.
    """
    find = _find_files(images, keys)

    def key_of(name: str) -> str:
        path = find(name)
        if path is None:
            where = 'the store does not name it' if images is None else f'{images} has none'
            raise InputError(
                f'--to mmdet: no image file of {name!r}: {where}; mmdet looks for the folder and '
                'the name of the file with its suffix, which --images finds'
            )
        parent = folder or os.path.basename(os.path.dirname(path))
        if not parent:
            raise InputError(
                f'--to mmdet: the folder of {path!r} is not known, which is in the keys of mmdet; '
                '--folder names it'
            )
        return os.path.join(parent, os.path.basename(path))

    return key_of


def _find_files(images: Path | None, keys: str | None) -> Callable[[str], str | None]:
    """Return a function from the names of a store to paths of files."""
    if images is None:
        return lambda name: name if without_suffix(name) != name else None
    if not images.is_dir():
        listed = by_id(read_json(images), 'images', str(images), file_name=str)
        files = {str(key): image['file_name'] for key, image in listed.items()}
        return files.get if keys == 'ids' else file_finder({f: f for f in files.values()}, keys)
    if keys == 'ids':
        raise InputError(
            f'{images}: a folder of images does not say their ids; give the COCO json that does'
        )
    paths = [os.path.abspath(path) for path in list_images(images).values()]
    return file_finder({os.path.relpath(path, images): path for path in paths}, keys)
