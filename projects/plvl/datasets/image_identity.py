"""Image identities that are comparable across datasets."""

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
# COCO_train2014_000000000154.jpg, or 000000000154.jpg since 2017.
_COCO_NAME = re.compile(r'(?:COCO_[a-z]+\d{4}_)?(\d{12})\.\w+')


def canonical_source(name: str) -> str:
    """Map an image collection name to 'coco', 'vg', 'flickr' or 'saiapr', or to lower case."""
    return _ALIASES.get(name.lower(), name.lower())


def image_keys(
    img_path: str, source: str | None, vg_images: dict[int, dict] | None = None
) -> tuple[ImageKey, ...]:
    """Return keys of an image that are the same in every dataset that contains it.

    Args:
        img_path: Path of the image, which need not exist.
        source: The collection of the image (see :func:`canonical_source`). None recognizes COCO
            file names and identifies any other image by its path.
        vg_images: Entries of ``image_data.json`` by image id. Some Visual Genome images come from
            COCO (``coco_id``); all have a ``flickr_id``.

    Returns:
        One key, or several for a Visual Genome image: ``('vg', 2407890), ('coco', 154)``.

    Raises:
        ValueError: If ``vg_images`` lacks the image.
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
    """Read the entries of Visual Genome's ``image_data.json`` by image id.

    Format::

        [{'image_id': 1, 'url': 'https://.../VG_100K_2/1.jpg', 'width': 800, 'height': 600,
          'coco_id': None, 'flickr_id': None}, ...]

    Raises:
        ValueError: If the file has another format.
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
