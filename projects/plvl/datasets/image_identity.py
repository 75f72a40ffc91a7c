"""Names, paths and identities of images that are comparable across datasets."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    check_fields,
    has_kind,
    read_json,
    shown,
)

from .checks import Invalid
from .image_sizes import check_image_size, read_image_size

if TYPE_CHECKING:
    from .reference import Reference

__all__ = [
    'ImageFolder',
    'ImageKey',
    'canonical_source',
    'image_keys',
    'image_name',
    'read_vg_images',
]

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
_FILE_NAMES = dict(coco='COCO_train2014_{:012d}.jpg', flickr='{}.jpg', saiapr='{}.jpg', vg='{}.jpg')
# COCO_train2014_000000000154.jpg, or 000000000154.jpg since 2017.
_COCO_NAME = re.compile(r'(?:COCO_[a-z]+\d{4}_)?(\d{12})\.\w+')


def canonical_source(name: str) -> str:
    """Map an image collection name to 'coco', 'vg', 'flickr' or 'saiapr', or to lower case."""
    return _ALIASES.get(name.lower(), name.lower())


def image_name(source: str, image_id: Any) -> str:
    """Return the published file name of an image, such as 'COCO_train2014_000000000154.jpg'.

    Args:
        source: The collection of the image.
        image_id: Its number in the collection.

    Raises:
        Invalid: If the collection is unknown, or the id is not a number.
    """
    pattern = _FILE_NAMES.get(canonical_source(source))
    if pattern is None:
        expected = f'one of {sorted(_FILE_NAMES)}, or a file_name beside it'
        raise Invalid('data_source', expected, shown(source))
    fields = dict(image_id=image_id)
    try:
        if has_kind(fields, 'image_id', IDENTIFIER):
            return pattern.format(int(fields['image_id']))
    except ValueError:
        pass
    raise Invalid('image_id', 'a number', shown(image_id))


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
    try:
        return os.path.realpath(folder)
    except ValueError:  # a name that no file can have
        return folder


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


class ImageFolder:
    """Find the images of references and determine which images they are.

    Args:
        path: The image directory.
        source: Collection of the images whose reference does not name one, or None.
        source_folders: Directory of each collection in ``path``. Empty if all images are in
            ``path`` itself.
        must_exist: Whether an image that does not exist is invalid.
        read_sizes: Whether to read sizes that are not annotated from the images.
        decode: Whether an image that cannot be decoded, or has another size than annotated, is
            invalid. Sizes that are not annotated are read.
        vg_images: See :func:`image_keys`.
    """

    def __init__(
        self,
        path: str,
        source: str | None = None,
        source_folders: Mapping[str, str] | None = None,
        *,
        must_exist: bool = True,
        read_sizes: bool = False,
        decode: bool = False,
        vg_images: dict[int, dict] | None = None,
    ) -> None:
        self.path = path
        self.source = source
        self.source_folders = source_folders or {}
        self.must_exist = must_exist
        self.read_sizes = read_sizes
        self.decode = decode
        self.vg_images = vg_images
        self.keys: dict[str, tuple[ImageKey, ...]] = {}  # image path -> keys
        self._names: dict[str, set[str]] = {}  # directory -> names of its files
        self._sizes: dict[str, tuple[int, int] | Invalid] = {}  # image path -> height, width

    def locate(self, reference: Reference) -> None:
        """Set ``img_path`` and ``image_keys`` of a reference, and its size if it is to be read.

        The folder of the image's collection becomes a part of ``image``.

        Raises:
            Invalid: If the image cannot be used; see :meth:`check`.
            ValueError: If the folder of its collection is unknown.
        """
        where = f'{reference.file}: {reference.entry}'
        image, path = self.add(reference.image, reference.source, where)
        reference.image, reference.img_path, reference.image_keys = image, path, self.keys[path]
        reference.height, reference.width = self.check(path, reference.height, reference.width)

    def check(
        self, path: str, height: int | None, width: int | None
    ) -> tuple[int | None, int | None]:
        """Check an image as far as asked for, and return its height and width, if known.

        Args:
            path: The image.
            height: Annotated height in pixels, or None.
            width: Annotated width in pixels, or None.

        Raises:
            Invalid: If the image does not exist, or its size is needed and cannot be read; with
                ``decode`` also if it is damaged or has another size.
        """
        if self.must_exist and not self.exists(path):
            found = f'that {path} does not exist'
            raise Invalid('image', 'an existing file', found, 'missing image')
        unknown = height is None and width is None
        if self.decode or (self.read_sizes and unknown):
            size = self._size(path)
            check_image_size((height, width), size)
            if unknown:
                return size
        return height, width

    def _size(self, path: str) -> tuple[int, int]:
        """Return height and width of an image, which is read once."""
        if path not in self._sizes:
            try:
                self._sizes[path] = read_image_size(path, self.decode)
            except Invalid as invalid:
                self._sizes[path] = invalid
        size = self._sizes[path]
        if isinstance(size, Invalid):
            raise size
        return size

    def add(self, image: str, source: str | None = None, where: str = '') -> tuple[str, str]:
        """Keep the keys of an image.

        Args:
            image: Its path relative to the folder of its collection.
            source: Its collection, or None if the file does not tell.
            where: The start of error messages.

        Returns:
            Its path relative to the image directory, and its path.

        Raises:
            ValueError: If the folder of its collection is unknown.
        """
        source = canonical_source(source) if source else self.source
        if source is not None and self.source_folders:
            if source not in self.source_folders:
                raise InputError(
                    f'{where}: an image of {source!r}, which is not in source_folders '
                    f'{sorted(self.source_folders)}'
                )
            image = os.path.join(self.source_folders[source], image)
        path = os.path.join(self.path, image)
        if path not in self.keys:
            self.keys[path] = image_keys(path, source, self.vg_images)
        return image, path

    def exists(self, path: str) -> bool:
        """Return whether an image exists."""
        # Listing each directory once is much faster than one stat call for each of 20,000 files.
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                with os.scandir(folder) as entries:
                    self._names[folder] = {entry.name for entry in entries}
            except (OSError, ValueError):  # ValueError: a name that no file can have
                self._names[folder] = set()
        return name in self._names[folder]
