"""Flickr30K Entities in its original format."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator

from mmengine.logging import print_log
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    read_text,
    read_xml,
    shown,
)

from .base import BaseGroundingDataset

__all__ = ['Flickr30kEntitiesDataset']

_PHRASE = re.compile(r'\[/EN#(\d{1,18})((?:/\w+)+) ([^\]]+)\]')


@DATASETS.register_module()
class Flickr30kEntitiesDataset(BaseGroundingDataset):
    """Load noun phrases of the Flickr30K captions with the boxes of the objects they name.

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
        ann_file: The list of images of a split, relative to ``data_root``. The directories
            ``Sentences`` and ``Annotations`` must be next to it.
        kwargs: Arguments of :class:`BaseGroundingDataset`.

    Raises:
        FileNotFoundError: If an image of the list has no captions or no boxes.
        ValueError: If a file has another format.
    """

    IMAGE_SOURCE = 'flickr'

    def iter_references(self) -> Iterator[dict]:
        """Yield one reference per annotated object of an image."""
        folder = os.path.dirname(self.ann_file)
        names = read_text(self.ann_file).split()
        ref_id = sent_id = without_box = 0
        for name in names:
            path = os.path.join(folder, 'Annotations', f'{name}.xml')
            sentences = os.path.join(folder, 'Sentences', f'{name}.txt')
            for file in (path, sentences):
                if not os.path.isfile(file):
                    raise FileNotFoundError(f'{self.ann_file}: {shown(file, 200)} does not exist')
            width, height, boxes = self._read_boxes(path)
            phrases = self._read_phrases(sentences)
            for chain, (kind, texts) in phrases.items():
                if chain not in boxes:
                    without_box += len(texts)
                    continue
                x1, y1, x2, y2 = zip(*boxes[chain])
                yield dict(
                    where=f'{path}: object {chain}',
                    img_name=f'{name}.jpg',
                    img_id=int(name) if name.isdecimal() else name,
                    height=height,
                    width=width,
                    ref_id=ref_id,
                    ann_id=chain,
                    box=[min(x1), min(y1), max(x2), max(y2)],
                    sentences=[
                        dict(text=text, sent_id=sent_id + i, kind=kind)
                        for i, text in enumerate(texts)
                    ],
                )
                ref_id += 1
                sent_id += len(texts)
        if without_box:
            print_log(
                f'{type(self).__name__}: {self.ann_file}: {without_box} phrases have no box and '
                'are no samples',
                'current',
                logging.INFO,
            )

    @staticmethod
    def _read_boxes(path: str) -> tuple[int, int, dict[int, list[list[float]]]]:
        """Read the width and height of the image and the boxes (XYXY) of each id."""
        boxes: dict[int, list[list[float]]] = {}
        root = read_xml(path)
        try:
            width, height = (int(root.findtext(f'size/{key}', '')) for key in ('width', 'height'))
            for item in root.iterfind('object'):
                box = item.find('bndbox')
                if box is None:
                    continue
                x1, y1, x2, y2 = (
                    float(box.findtext(key, '')) for key in ('xmin', 'ymin', 'xmax', 'ymax')
                )
                for name in item.iterfind('name'):
                    boxes.setdefault(int(name.text or ''), []).append([x1 - 1, y1 - 1, x2, y2])
        except (TypeError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise InputError(
                f'{path}: not an annotation of Flickr30K Entities; size and objects with name '
                f'and bndbox were expected ({reason})'
            ) from None
        return width, height, boxes

    @staticmethod
    def _read_phrases(path: str) -> dict[int, tuple[str, list[str]]]:
        """Read the type and the phrases of each id, in the order of the captions."""
        phrases: dict[int, tuple[str, list[str]]] = {}
        for chain, types, text in _PHRASE.findall(read_text(path)):
            kind = types.split('/')[1]
            phrases.setdefault(int(chain), (kind, []))[1].append(text)
        return phrases
