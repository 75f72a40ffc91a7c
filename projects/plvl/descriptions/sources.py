"""Read boxes from COCO's json or VOC's XML files."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_xml, shown

from ..datasets.checks import Invalid, check_size
from ..datasets.refer import load_instances
from ..datasets.reference import Target
from .photo import Photo, PhotoObject

__all__ = ['read_photos']

# VOC writes two words as one.
_WORDS = {
    'diningtable': 'dining table', 'pottedplant': 'potted plant', 'tvmonitor': 'tv monitor',
}  # fmt: skip


def read_photos(source: str | os.PathLike) -> list[Photo]:
    """Read the boxes of all images, whose colors are not known yet.

    Args:
        source: A COCO json file of instances, or a folder of VOC's XML files.

    Returns:
        The images that have objects, sorted by name, with boxes clipped to the image.

    Raises:
        FileNotFoundError: The source does not exist.
        InputError: A file or field is wrong.
    """
    path = Path(source)
    photos = list(_read_voc(path) if path.is_dir() else _read_coco(path))
    if not any(photo.objects for photo in photos):
        raise InputError(f'{path}: found no object, expected boxes in COCO json or VOC XML files')
    counts = Counter(photo.name for photo in photos)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise InputError(f'{path}: found the image {name} {count} times, expected it once')
    return sorted((p for p in photos if p.objects), key=lambda photo: photo.name)


def _noun(name: str, where: str) -> str:
    words = ' '.join(name.replace('_', ' ').lower().split())
    if not words:
        raise InputError(f'{where}: name: found {shown(name)}, expected the name of a class')
    return _WORDS.get(words, words)


def _checked(target: Target, height: int, width: int, file: Path, entry: str) -> Target:
    try:
        target.check(height, width)
    except Invalid as invalid:
        raise invalid.at(str(file), entry) from None
    return target


def _object(target: Target, noun: str, crowd: bool = False, hard: bool = False) -> PhotoObject:
    x1, y1, x2, y2 = target.bbox
    return PhotoObject(noun, (x1, y1, x2, y2), target, crowd, hard)


def _read_coco(path: Path) -> Iterator[Photo]:
    images, annotations, names = load_instances(str(path))
    objects = defaultdict(list)
    for key, annotation in annotations.items():
        where = f'annotation {shown(key)}'
        image = images.get(annotation.get('image_id'))
        if image is None:
            found = shown(annotation.get('image_id'))
            raise InputError(f'{path}: {where}: image_id: found {found}, expected an id of images')
        name = names.get(annotation.get('category_id'))
        if name is None:
            found = shown(annotation.get('category_id'))
            raise InputError(
                f'{path}: {where}: category_id: found {found}, expected an id of categories'
            )
        crowd = bool(annotation.get('iscrowd'))
        target = Target(
            box=annotation.get('bbox'),
            box_format='xywh',
            mask=annotation.get('segmentation') or None,
            ann_id=key,
            category=name,
            category_id=annotation['category_id'],
            iscrowd=int(crowd),
        )
        _checked(target, image['height'], image['width'], path, where)
        objects[image['id']].append(_object(target, _noun(name, f'{path}: {where}'), crowd))
    for key, image in images.items():
        yield Photo(
            image['file_name'],
            image['width'],
            image['height'],
            tuple(objects[key]),
            str(path),
            f'image {shown(key)}',
            key,
        )


def _read_voc(folder: Path) -> Iterator[Photo]:
    files = sorted(folder.glob('*.xml'))
    if not files:
        raise InputError(f'{folder}: found no .xml file, expected VOC annotations')
    for path in files:
        root = read_xml(path)
        width, height = (_number(root, f'size/{side}', path) for side in ('width', 'height'))
        try:
            check_size(int(height), int(width))
        except Invalid as invalid:
            raise invalid.at(str(path), 'size') from None
        objects = []
        for number, entry in enumerate(root.findall('object'), 1):
            where = f'object {number}'
            x1, y1, x2, y2 = (
                _number(entry, f'bndbox/{side}', path, f'{where}: ')
                for side in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            name = (entry.findtext('name') or '').strip()
            noun = _noun(name, f'{path}: {where}')
            # VOC counts pixels from 1, and the last one belongs to the object.
            target = Target(box=[x1 - 1, y1 - 1, x2, y2], ann_id=number, category=name)
            _checked(target, int(height), int(width), path, where)
            hard = (entry.findtext('difficult') or '0').strip() == '1'
            objects.append(_object(target, noun, hard=hard))
        name = (root.findtext('filename') or '').strip() or f'{path.stem}.jpg'
        yield Photo(name, int(width), int(height), tuple(objects), str(path), 'size', path.stem)


def _number(entry: ElementTree.Element, field: str, path: Path, where: str = '') -> float:
    text = entry.findtext(field)
    try:
        return float(text or '')
    except ValueError:
        raise InputError(
            f'{path}: {where}{field}: found {shown(text)}, expected a number'
        ) from None
