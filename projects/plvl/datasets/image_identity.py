"""Which picture a file is, told across data sets."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

from projects.common.errors import InputError
from projects.common.files.annotation_files import check_fields, read_json

__all__ = ['ImageKey', 'canonical_source', 'image_keys', 'read_vg_images']

ImageKey = tuple[str, Any]

_ALIASES = {
    'mscoco': 'coco',
    'visual-genome': 'vg',
    'visual_genome': 'vg',
    'visualgenome': 'vg',
    'flickr30k': 'flickr',
    'flickr30k_entities': 'flickr',
    'referit': 'saiapr',
    'refclef': 'saiapr',
    'saiaprtc12': 'saiapr',
    'saiapr_tc-12': 'saiapr',
}
# COCO_train2014_000000000154.jpg, and 000000000154.jpg as from 2017 on.
_COCO_NAME = re.compile(r'(?:COCO_[a-z]+\d{4}_)?(\d{12})\.\w+')


def canonical_source(name: str) -> str:
    """'coco', 'vg', 'flickr' or 'saiapr' for the names in use; any other name in lower case."""
    return _ALIASES.get(name.lower(), name.lower())


def image_keys(
    img_path: str, source: str | None, vg_images: dict[int, dict] | None = None
) -> tuple[ImageKey, ...]:
    """Names of a picture that are the same in every data set that has it.

    Args:
        img_path: The picture's path; it need not exist.
        source: The collection it is of (see :func:`canonical_source`); None recognises COCO's
            file names and takes every other picture as itself, by its path.
        vg_images: Entries of ``image_data.json`` by image id: some of Visual Genome's pictures
            are COCO's (``coco_id``), all have a ``flickr_id``.

    Returns:
        One key, or more for a picture of Visual Genome: ``('vg', 2407890), ('coco', 154)``.

    Raises:
        ValueError: ``vg_images`` lacks the picture.
    """
    folder, name = os.path.split(img_path)
    coco = _COCO_NAME.fullmatch(name)
    if coco is not None and source in (None, 'coco'):
        return (('coco', int(coco[1])),)
    if source is None:
        return (('file', os.path.join(_real_folder(folder), name)),)
    stem = os.path.splitext(name)[0]
    number = int(stem) if stem.isdecimal() else stem
    keys: list[ImageKey] = [(source, number)]
    if source == 'vg' and vg_images is not None:
        if number not in vg_images:
            raise InputError(f'{img_path}: no image {number} in image_data.json')
        entry = vg_images[number]
        keys += [
            (other, int(entry[field]))
            for other, field in (('coco', 'coco_id'), ('flickr', 'flickr_id'))
            if entry.get(field) is not None
        ]
    return tuple(keys)


@functools.lru_cache(maxsize=256)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def read_vg_images(path: str) -> dict[int, dict]:
    """Entries of Visual Genome's ``image_data.json`` by image id::

        [{'image_id': 1, 'url': 'https://.../VG_100K_2/1.jpg', 'width': 800, 'height': 600,
          'coco_id': None, 'flickr_id': None}, ...]

    Raises:
        ValueError: The file is of another form.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(
            f"{path}: not Visual Genome's image_data.json; a list of entries with image_id and "
            'coco_id was expected'
        )
    number_or_none = (int, type(None))
    for i, entry in enumerate(entries):
        where = f'{path}: entry {i}'
        check_fields(entry, where, image_id=int, coco_id=number_or_none, flickr_id=number_or_none)
        if 'coco_id' not in entry:
            raise InputError(f"{where}: no field 'coco_id'")
    return {entry['image_id']: entry for entry in entries}
