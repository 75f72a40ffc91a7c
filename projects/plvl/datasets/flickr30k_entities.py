"""Flickr30K Entities in its original format."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from mmengine.logging import print_log
from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_text, read_xml, shown

from .checks import Invalid
from .dataset import GroundingDataset
from .reference import Reference, Sentence, Target

__all__ = ['Flickr30kEntitiesDataset', 'read_flickr30k_entities']

_PHRASE = re.compile(r'\[/EN#(\d{1,18})((?:/\w+)+) ([^\]]+)\]')


@FUNCTIONS.register_module()
def read_flickr30k_entities(
    files: Mapping[str, str], split: str | None = None
) -> Iterator[Reference | Invalid]:
    """Read noun phrases of the Flickr30K captions with the boxes of the objects they name.

    ::

        data_root/flickr30k_entities
        ├── train.txt, val.txt, test.txt    one image per line: 36979
        ├── Sentences/36979.txt             five captions
        └── Annotations/36979.xml           boxes, each with the ids of its phrases

    A caption marks each phrase with the id of the object that it names and with its types::

        [/EN#1/people Two young guys] with [/EN#2/bodyparts shaggy hair] look at ...

    All phrases with the same id in the five captions are sentences about one object; ``kind`` is
    the type ('people', 'clothing', ...). If an object has several boxes, their union is used.
    Phrases without a box (scenes, events, things that cannot be seen) yield no samples; their
    number is logged. Boxes are published as first and last pixel, counted from 1, and are
    converted to edges here.

    Args:
        files: ``ann_file`` is the list of images of a split. The directories ``Sentences`` and
            ``Annotations`` must be next to it.
        split: Not used; each list is one split.

    Raises:
        FileNotFoundError: If an image of the list has no captions or no boxes.
    """
    ann_file = files['ann_file']
    without_box = 0
    for name in read_text(ann_file).split():
        boxes_file, captions_file = (
            os.path.join(os.path.dirname(ann_file), *path)
            for path in (('Annotations', f'{name}.xml'), ('Sentences', f'{name}.txt'))
        )
        for file in (boxes_file, captions_file):
            if not os.path.isfile(file):
                raise FileNotFoundError(f'{ann_file}: {shown(file, 200)} does not exist')
        root = read_xml(boxes_file)
        try:
            width, height, boxes = _parse_boxes(root)
        except (TypeError, ValueError) as error:
            expected = 'an annotation of Flickr30K Entities (size, objects with name and bndbox)'
            yield Invalid('annotation', expected, str(error), file=boxes_file)
            continue
        for number, (kind, texts) in _read_phrases(captions_file).items():
            if number not in boxes:
                without_box += len(texts)
                continue
            x1, y1, x2, y2 = zip(*boxes[number])
            yield Reference(
                file=boxes_file,
                entry=f'object {number}',
                image=f'{name}.jpg',
                sentences=[Sentence(text, kind=kind) for text in texts],
                targets=[Target([min(x1), min(y1), max(x2), max(y2)], ann_id=number)],
                image_id=int(name) if name.isdecimal() else name,
                height=height,
                width=width,
            )
    if without_box:
        print_log(
            f'{ann_file}: {without_box} phrases have no box and are no samples',
            'current',
            logging.INFO,
        )


def _parse_boxes(root: Element) -> tuple[int, int, dict[int, list[list[float]]]]:
    """Return the width and height of the image and the boxes (XYXY) of each id."""
    boxes: dict[int, list[list[float]]] = {}
    width, height = (_integer(root.findtext(f'size/{key}', '')) for key in ('width', 'height'))
    for item in root.iterfind('object'):
        box = item.find('bndbox')
        if box is None:
            continue
        x1, y1, x2, y2 = (float(box.findtext(key, '')) for key in ('xmin', 'ymin', 'xmax', 'ymax'))
        for name in item.iterfind('name'):
            boxes.setdefault(_integer(name.text or ''), []).append([x1 - 1, y1 - 1, x2, y2])
    return width, height, boxes


def _integer(text: str) -> int:
    """Return an integer, which may be written as 3.0."""
    value = float(text)
    if not value.is_integer():
        raise InputError(f'{shown(text)} is no integer')
    return int(value)


def _read_phrases(path: str) -> dict[int, tuple[str, list[str]]]:
    """Read the type and the phrases of each id, in the order of the captions."""
    phrases: dict[int, tuple[str, list[str]]] = {}
    for number, types, text in _PHRASE.findall(read_text(path)):
        kind = types.split('/')[1]
        phrases.setdefault(int(number), (kind, []))[1].append(text)
    return phrases


@DATASETS.register_module()
class Flickr30kEntitiesDataset(GroundingDataset):
    """Load Flickr30K Entities, which :func:`read_flickr30k_entities` describes.

    Args:
        ann_file: The list of images of a split, relative to ``data_root``.
        kwargs: Arguments of :class:`GroundingDataset`.

    Raises:
        FileNotFoundError: If an image of the list has no captions or no boxes.
        ValueError: If a file has another format.
    """

    IMAGE_SOURCE = 'flickr'

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file, reader=read_flickr30k_entities, **kwargs)
