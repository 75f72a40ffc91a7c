"""Custom grounding data: an image directory and a JSON Lines file."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from typing import Any

import cv2
import mmcv
import numpy as np
import pycocotools.mask as mask_utils
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    parse_json,
    read_lines,
    shown,
)

from .annotations import InvalidSampleError, mask_box
from .base import BaseGroundingDataset

__all__ = ['JSONLinesGroundingDataset', 'read_mask_file']

_KEYS = {
    'image', 'sentence', 'sentences', 'bbox', 'mask', 'width', 'height', 'kind', 'category',
    'object_id', 'meta',
}  # fmt: skip


def read_mask_file(path: str) -> dict:
    """Read a mask image as RLE; every nonzero pixel belongs to the object.

    Raises:
        InvalidSampleError: If the file is missing, is not a readable image, or is all zero.
    """
    if not os.path.isfile(path):
        raise InvalidSampleError(f'invalid mask: {path} does not exist')
    image = None
    with contextlib.suppress(cv2.error):  # of an empty file
        image = mmcv.imread(path, flag='unchanged')
    if image is None:
        raise InvalidSampleError(f'invalid mask: {path} cannot be read as an image')
    mask = image != 0
    if image.ndim == 3:
        mask = mask[..., :3].any(axis=2)  # ignore an alpha channel
    if not mask.any():
        raise InvalidSampleError(f'invalid mask: {path} is all zero')
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


@DATASETS.register_module()
class JSONLinesGroundingDataset(BaseGroundingDataset):
    """Load a file with one JSON object per line, each about one object in one image.

    ::

        {"image": "kitchen/001.jpg", "sentence": "the red mug", "bbox": [34, 50, 97.5, 120]}
        {"image": "kitchen/001.jpg", "sentences": ["left spoon", "the spoon by the mug"],
         "mask": [[10, 10, 60, 12, 58, 30]]}
        {"image": "kitchen/002.jpg", "sentence": "a plate", "mask": "masks/002_plate.png"}

    (The second object is wrapped here only to fit.) Fields:

    - ``image``: path relative to the image directory.
    - ``sentence`` or ``sentences``: a string, or a list of strings about the same object.
    - ``bbox``: [x1, y1, x2, y2] in pixels of the upright image; computed from the mask if absent.
    - ``mask``: COCO polygons, COCO RLE, or the path (relative to ``data_root``) of an image of the
      same size whose nonzero pixels belong to the object. Optional if there is a ``bbox``; without
      a mask the sample trains and tests boxes only.
    - ``width``, ``height``: optional; read from the image header when needed.
    - ``kind``, ``category``: optional strings for results by group.
    - ``object_id``: optional number or string, the same for all lines about one object.
    - ``meta``: optional; any other data, which is ignored (the converter stores the ids of the
      refer layout there, under ``refer``).

    Config for a directory ``mydata`` with ``train.jsonl`` and ``images/``::

        dict(type='JSONLinesGroundingDataset', data_root='mydata', ann_file='train.jsonl',
             data_prefix=dict(img='images'), pipeline=train_pipeline)

    Args:
        ann_file: The file, relative to ``data_root``.
        kwargs: Arguments of :class:`BaseGroundingDataset`.

    Raises:
        ValueError: If a line does not have this form; the message starts with file:line. Wrong
            types and unknown fields raise even with ``skip_invalid``, which only covers damaged
            samples.
    """

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file=ann_file, **kwargs)

    def iter_references(self) -> Iterator[dict]:
        """Yield one reference per line."""
        sent_id = 0
        for number, line in enumerate(read_lines(self.ann_file), start=1):
            if not line.strip():
                continue
            where = f'{self.ann_file}:{number}'
            reference = self._parse_line(line, where)
            reference['ref_id'] = number
            reference['sentences'] = [
                dict(text=text, sent_id=sent_id + i, kind=reference['kind'])
                for i, text in enumerate(reference['sentences'])
            ]
            sent_id += len(reference['sentences'])
            try:
                self._read_mask(reference)
            except InvalidSampleError as error:
                reference['error'] = error
            yield reference

    def _parse_line(self, line: str, where: str) -> dict:
        """Parse one line and check the types of its fields."""

        def expect(ok: bool, field: str, expected: str, found: Any) -> None:
            if not ok:
                raise InputError(f'{where}: {field}: expected {expected}, found {shown(found)}')

        fields = parse_json(line, where, 'a JSON object on one line')
        expect(isinstance(fields, dict), 'line', 'a JSON object', fields)
        for key in fields.keys() - _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f'did you mean {near[0]!r}?' if near else "put further data under 'meta'"
            raise InputError(f'{where}: unknown field {shown(key)}; {hint}')

        def is_number(value: Any) -> bool:
            return isinstance(value, (int, float)) and not isinstance(value, bool)

        image = fields.get('image')
        expect(isinstance(image, str) and image != '', 'image', 'a path', image)
        expect(
            ('sentence' in fields) != ('sentences' in fields),
            'sentence',
            "either 'sentence' or 'sentences'",
            sorted(fields),
        )
        sentences = fields.get('sentences', [fields.get('sentence')])
        expect(
            isinstance(sentences, list)
            and len(sentences) > 0
            and all(isinstance(text, str) for text in sentences),
            'sentences' if 'sentences' in fields else 'sentence',
            'a list of strings' if 'sentences' in fields else 'a string',
            fields.get('sentences', fields.get('sentence')),
        )
        box, mask = fields.get('bbox'), fields.get('mask')
        expect(box is not None or mask is not None, 'bbox', "a 'bbox' or a 'mask'", sorted(fields))
        if box is not None:
            expect(
                isinstance(box, list) and len(box) == 4 and all(is_number(v) for v in box),
                'bbox',
                '[x1, y1, x2, y2]',
                box,
            )
        if mask is not None:
            expect(isinstance(mask, (list, dict, str)), 'mask', 'polygons, an RLE or a path', mask)
        for key in ('width', 'height'):
            value = fields.get(key)
            expect(
                value is None or (isinstance(value, int) and value > 0),
                key,
                'a positive integer',
                value,
            )
        expect(
            (fields.get('width') is None) == (fields.get('height') is None),
            'width',
            "'width' and 'height' together or neither",
            sorted(fields),
        )
        for key in ('kind', 'category'):
            value = fields.get(key)
            expect(value is None or isinstance(value, str), key, 'a string', value)
        object_id = fields.get('object_id')
        expect(
            object_id is None or isinstance(object_id, (int, str)),
            'object_id',
            'a number or a string',
            object_id,
        )
        return dict(
            where=where,
            img_name=image,
            img_id=image,
            height=fields.get('height'),
            width=fields.get('width'),
            ann_id=object_id,
            box=box,
            mask=mask,
            kind=fields.get('kind'),
            category=fields.get('category'),
            meta=fields.get('meta'),
            sentences=sentences,
        )

    def _read_mask(self, reference: dict) -> None:
        """Resolve the path of a mask image and compute the box from it if there is none.

        The image is read again when the sample is used, so that a large dataset does not keep all
        its masks in memory.
        """
        mask = reference['mask']
        if not isinstance(mask, str):
            return
        path = os.path.join(self.data_root, mask)
        reference['mask'] = path
        if reference['box'] is None:
            reference['box'] = mask_box(read_mask_file(path))
        elif not os.path.isfile(path):
            raise InvalidSampleError(f'invalid mask: {path} does not exist')
