"""On-disk index of Visual Genome region descriptions, shared between processes."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    NUMBER,
    check_fields,
    iter_json_list,
)
from projects.common.files.atomic import folder_locked, open_atomically
from projects.common.files.caches import spare_place

from .image_identity import read_vg_images
from .reference import Reference, Sentence, Target

__all__ = ['RegionIndex', 'open_region_index']

# File layout: region records, image records, the texts of both, a JSON footer, the length of the
# footer, and _MAGIC. Its number changes whenever the stored data or the checks change.
_MAGIC = b'MMTRIAD-REGIONS-2\n'
_TAIL = 8 + len(_MAGIC)
_REGION = np.dtype(
    [
        ('region_id', '<i8'),
        ('box_xywh', '<f8', 4),
        ('text_start', '<i8'),
        ('text_size', '<i4'),
        ('image', '<i4'),  # row of the image record
        ('entry', '<i4'),  # position in the annotation file's list
        ('reason', '<i4'),  # 0 for a usable region, else 1 + index into `reasons`
    ]
)
_IMAGE = np.dtype(
    [
        ('image_id', '<i8'),
        ('coco_id', '<i8'),  # _NONE if the image is not from COCO
        ('flickr_id', '<i8'),
        ('height', '<i8'),
        ('width', '<i8'),
        ('name_start', '<i8'),
        ('name_size', '<i8'),
    ]
)
_LIMIT = np.iinfo('<i8').max
_NONE = np.iinfo('<i8').min
_BATCH = 1 << 12  # records written at once
_BLOCK = 1 << 22  # bytes read at once for checksums and copies
_SAMPLE = 1 << 16  # bytes at either end of a source that enter its stamp


class RegionIndex:
    """Access Visual Genome regions in a memory-mapped file.

    Only the data being read occupies process memory, and processes that map the same file share its
    pages. :func:`open_region_index` builds and finds the file.

    Args:
        path: Path of the index.

    Raises:
        ValueError: If the file is not an index, is incomplete or is damaged.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        footer, data = self._read_footer()
        layout = (len(data), footer['regions'], footer['images'])
        self.reasons: list[str] = footer['reasons']
        self.sources: list[list] = footer['sources']
        images_start = layout[1] * _REGION.itemsize
        texts_start = images_start + layout[2] * _IMAGE.itemsize
        if not 0 < images_start < texts_start <= layout[0]:
            raise InputError(f'{self.path}: damaged index of regions (its parts do not fit)')
        self.regions = data[:images_start].view(_REGION)
        self.images = data[images_start:texts_start].view(_IMAGE)
        self._texts = data[texts_start:]
        if footer['checksum'] != _checksum(data):
            raise InputError(f'{self.path}: damaged index of regions (wrong checksum)')

    def __reduce__(self) -> tuple:
        """Pickle the path instead of the file contents."""
        return type(self), (self.path,)

    def __deepcopy__(self, memo: dict) -> RegionIndex:
        """Return itself, because the index is immutable."""
        return self

    def __len__(self) -> int:
        """Return the number of regions, including unusable ones."""
        return len(self.regions)

    def _read_footer(self) -> tuple[dict, np.ndarray]:
        """Return the footer and the bytes before it."""
        try:
            with open(self.path, 'rb') as file:
                end = file.seek(0, os.SEEK_END) - _TAIL
                file.seek(max(end, 0))
                tail = file.read(_TAIL)
                size = int.from_bytes(tail[:8], 'little')
                if end < 0 or tail[8:] != _MAGIC or size > end:
                    raise InputError('its end is missing')
                file.seek(end - size)
                footer = json.loads(file.read(size))
            check_fields(
                footer, 'footer', regions=int, images=int, checksum=int, reasons=list, sources=list
            )
        except ValueError as error:
            raise InputError(f'{self.path}: damaged index of regions ({error})') from None
        return footer, np.memmap(self.path, np.uint8, 'r', shape=(end - size,))

    def _text(self, start: int, size: int) -> str:
        return bytes(self._texts[start : start + size]).decode('utf-8', 'surrogatepass')

    def image_name(self, row: int, in_folders: bool = True) -> str:
        """Return the file name of an image, with its directory as in 'VG_100K_2/1.jpg' or not."""
        image = self.images[row]
        name = self._text(int(image['name_start']), int(image['name_size']))
        return name if in_folders else os.path.basename(name)

    def vg_images(self) -> dict[int, dict]:
        """Return the ids of all images in the form of :func:`image_identity.read_vg_images`."""
        ids = (self.images[field].tolist() for field in ('image_id', 'coco_id', 'flickr_id'))
        return {
            image: dict(
                coco_id=None if coco == _NONE else coco,
                flickr_id=None if flickr == _NONE else flickr,
            )
            for image, coco, flickr in zip(*ids)
        }

    def reference(self, row: int, file: str, in_folders: bool) -> Reference:
        """Return a region as a reference.

        Args:
            row: Row of the region.
            file: The annotation file, for messages.
            in_folders: Whether the path of the image includes its directory.
        """
        region = self.regions[row]
        image = self.images[region['image']]
        region_id = int(region['region_id'])
        text = self._text(int(region['text_start']), int(region['text_size']))
        return Reference(
            file=file,
            entry=f'entry {int(region["entry"])}: region_id {region_id}',
            image=self.image_name(int(region['image']), in_folders),
            sentences=[Sentence(text, region_id)],
            targets=[Target(region['box_xywh'].tolist(), 'xywh', ann_id=region_id)],
            image_id=int(image['image_id']),
            ref_id=region_id,
            height=int(image['height']),
            width=int(image['width']),
        )


def _checksum(data: np.ndarray) -> int:
    checksum = 0
    for start in range(0, len(data), _BLOCK):
        checksum = zlib.crc32(data[start : start + _BLOCK].tobytes(), checksum)
    return checksum


# ----------------------------------------------------------------------------------- opening


def open_region_index(ann_file: str, image_file: str) -> RegionIndex:
    """Open the index of a pair of annotation files, building it if necessary.

    The index is ``<ann_file>.index``. If the annotation directory is not writable, it is stored in
    the directory named by ``MMTRIAD_CACHE`` (default: ``~/.cache/mmtriad``). If several processes
    need it at once, one builds it and the others wait. The index is bound to the size, modification
    time and content at both ends of the source files. An index of other files or a damaged one is
    rebuilt, and this is logged.

    Args:
        ann_file: ``region_descriptions.json``.
        image_file: ``image_data.json``.

    Raises:
        ValueError: If a file has another format.
        OSError: If the index cannot be written anywhere.
    """
    sources = [_stamp(ann_file), _stamp(image_file)]
    name = f'{os.path.basename(ann_file)}.index'
    places = [Path(ann_file).parent / name, spare_place(ann_file, name)]
    for path in places:
        index, _ = _open_valid(path, sources)
        if index is not None:
            return index
    refusals = []
    for path in places:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with folder_locked(path.parent):
                index, problem = _open_valid(path, sources)  # another process may have built it
                if index is None:
                    _make(path, ann_file, image_file, sources, problem)
                    index = RegionIndex(path)
                return index
        except FileNotFoundError:
            raise
        except OSError as error:  # read-only, full, or no lock support
            refusals.append(f'{path.parent}: {error.strerror or error}')
    raise PermissionError(
        f'{ann_file}: its index can be written neither beside it nor in the folder of caches '
        f'({"; ".join(refusals)}); set MMTRIAD_CACHE to a folder with room'
    )


def _stamp(path: str) -> list:
    """Identify a file by its name, size, modification time and the checksum of both ends."""
    status = os.stat(path)
    with open(path, 'rb') as file:
        checksum = zlib.crc32(file.read(_SAMPLE))
        file.seek(max(status.st_size - _SAMPLE, 0))
        checksum = zlib.crc32(file.read(_SAMPLE), checksum)
    return [os.path.basename(path), status.st_size, status.st_mtime_ns, checksum]


def _open_valid(path: Path, sources: list[list]) -> tuple[RegionIndex | None, str | None]:
    """Return the index, or None and the reason, which is None if there is no file."""
    try:
        index = RegionIndex(path)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except (OSError, ValueError) as error:
        return None, f'{error}'
    if index.sources != sources:
        return None, f'{path}: made of other files, or of files that have changed since'
    return index, None


# ---------------------------------------------------------------------------------- building


def _make(
    path: Path,
    ann_file: str,
    image_file: str,
    sources: list[list],
    problem: str | None,
) -> None:
    if problem:
        print_log(f'{problem}; it is made anew', 'current', logging.WARNING)
    print_log(f'{ann_file}: making an index that all processes share, once: {path}', 'current')
    with (
        open_atomically(path) as file,
        tempfile.TemporaryFile(dir=path.parent) as text_file,
    ):
        writer = _Writer(file, text_file)
        vg_images = read_vg_images(image_file)
        for entry, content in enumerate(iter_json_list(ann_file, 'a list of entries with regions')):
            where = f'{ann_file}: entry {entry}'
            check_fields(content, where, regions=list)
            for region in content['regions']:
                writer.add(region, entry, where, vg_images, image_file)
        if not writer.rows:
            raise InputError(f'{ann_file}: no usable sample: it holds none')
        writer.finish(sources)


class _Writer:
    """Write regions as they arrive, keeping only the images in memory."""

    def __init__(self, file: BinaryIO, text_file: BinaryIO) -> None:
        self.file, self.text_file = file, text_file
        self.regions: list[tuple] = []  # regions not yet written
        self.images: list[tuple] = []
        self.names: list[str] = []
        self.rows: dict[int, int] = {}  # image id -> row
        self.reasons: list[str | None] = []
        self.num_regions = self.text_size = self.checksum = 0

    def add(
        self, region: Any, entry: int, where: str, vg_images: dict[int, dict], image_file: str
    ) -> None:
        """Check a region of the annotation file and write it.

        Raises:
            ValueError: If the region has another format or its image is not listed.
        """
        check_fields(
            *(region, where),
            image_id=IDENTIFIER,
            region_id=IDENTIFIER,
            **dict.fromkeys(('x', 'y', 'width', 'height'), NUMBER),
            phrase=str,
        )
        image_id, region_id = region['image_id'], region['region_id']
        if image_id not in vg_images:
            raise InputError(f'{where}: no image {image_id!r} in {image_file}')
        for field, value in (('image_id', image_id), ('region_id', region_id)):
            if not isinstance(value, int) or abs(value) > _LIMIT:
                raise InputError(f'{where}: {field}: expected a number of 64 bits, found {value!r}')
        if image_id not in self.rows:
            self._add_image(image_id, vg_images[image_id], image_file)
        row = self.rows[image_id]
        box_xywh = [_float(region[key]) for key in ('x', 'y', 'width', 'height')]
        _, _, _, height, width, *_ = self.images[row]
        reference = Reference(
            file='',
            entry='',
            image=self.names[row],
            sentences=[Sentence(region['phrase'], region_id)],
            targets=[Target(box_xywh, 'xywh')],
            image_id=image_id,
            ref_id=region_id,
            height=height,
            width=width,
        )
        reason = 0
        for invalid in reference.check():
            if invalid.reason not in self.reasons:
                self.reasons.append(invalid.reason)
            reason = 1 + self.reasons.index(invalid.reason)
        start, size = self._add_text(region['phrase'])
        self.regions.append((region_id, box_xywh, start, size, row, entry, reason))
        if len(self.regions) == _BATCH:
            self._flush()

    def _add_image(self, image_id: int, image: dict, image_file: str) -> None:
        where = f'{image_file}: image {image_id}'
        check_fields(image, where, url=str, width=int, height=int)
        name = os.path.join(*image['url'].rsplit('/', 2)[-2:])
        ids = [_NONE if image.get(key) is None else image[key] for key in ('coco_id', 'flickr_id')]
        numbers = (image_id, *ids, image['height'], image['width'])
        if any(abs(number) > _LIMIT for number in numbers if number != _NONE):
            raise InputError(f'{where}: a number of more than 64 bits')
        self.rows[image_id] = len(self.images)
        self.names.append(name)
        self.images.append((*numbers, *self._add_text(name)))

    def _add_text(self, text: str) -> tuple[int, int]:
        data = text.encode('utf-8', 'surrogatepass')
        self.text_file.write(data)
        start, self.text_size = self.text_size, self.text_size + len(data)
        return start, len(data)

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.checksum = zlib.crc32(data, self.checksum)

    def _flush(self) -> None:
        self._write(np.array(self.regions, dtype=_REGION).tobytes())
        self.num_regions += len(self.regions)
        self.regions.clear()

    def finish(self, sources: list[list]) -> None:
        """Write the remaining regions, the images, the texts and the footer."""
        self._flush()
        self._write(np.array(self.images, dtype=_IMAGE).tobytes())
        self.text_file.seek(0)
        while block := self.text_file.read(_BLOCK):
            self._write(block)
        footer = dict(
            regions=self.num_regions,
            images=len(self.images),
            checksum=self.checksum,
            reasons=self.reasons,
            sources=sources,
        )
        data = json.dumps(footer).encode()
        self.file.write(data + len(data).to_bytes(8, 'little') + _MAGIC)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer with hundreds of digits, which is no valid box side
        return float('inf')
