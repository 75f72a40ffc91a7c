"""SeqTR annotation files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    NUMBER,
    check_fields,
    read_json,
    shown,
)

from .base import BaseGroundingDataset
from .image_identity import canonical_source

__all__ = ['SeqTRGroundingDataset', 'load_seqtr']


def load_seqtr(path: str | os.PathLike) -> dict[str, list]:
    """Load a SeqTR ``instances.json``, which holds a list of records for each split.

    Raises:
        ValueError: If the file has another format.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise InputError(
            f"{path}: not a file of SeqTR's; a list of records for each split was expected"
        )
    if 'images' in content and 'annotations' in content:
        raise InputError(f"{path}: a COCO annotation file, not one of SeqTR's")
    return content


@DATASETS.register_module()
class SeqTRGroundingDataset(BaseGroundingDataset):
    """Load a SeqTR ``instances.json``, the format that SimVG, C3VG, DeRIS and PolyFormer use too.

    ::

        {'train': [{
            'bbox': [11.98, 315.59, 349.08, 324.41],          # XYWH
            'expressions': ['zebra at the bottom', ...],
            'mask': [[229.5, 618.18, ...]],                   # polygons or RLE; optional
            'image_id': 154, 'width': 427, 'height': 640,
            'data_source': 'coco',                            # optional
         }, ...],
         'val': [...], ...}

    Files that combine several datasets have keys such as 'val_refcoco_unc'. The converter of this
    project adds ``file_name``, ``ref_id``, ``ann_id``, ``sent_ids``, ``kinds`` (one per
    expression), ``category``, ``category_id`` and ``iscrowd`` if they are known; SeqTR ignores
    them.

    Args:
        ann_file: The .json file, relative to ``data_root``.
        split: Key of the file.
        kwargs: Arguments of :class:`BaseGroundingDataset`. Records without ``data_source`` use
            ``image_source``, which defaults to 'coco'.

    Raises:
        ValueError: If the file has no such split, or a record lacks a field or has one of the
            wrong type. This is raised even with ``skip_invalid``, which only covers damaged
            samples.
    """

    IMAGE_NAMES = dict(
        coco='COCO_train2014_{:012d}.jpg', flickr='{}.jpg', saiapr='{}.jpg', vg='{}.jpg'
    )
    """File name patterns of the image collections, for records without ``file_name``."""

    def __init__(self, ann_file: str, split: str, **kwargs) -> None:
        self.split = split
        super().__init__(ann_file=ann_file, **kwargs)

    def iter_references(self) -> Iterator[dict]:
        """Yield one reference per record of the split."""
        splits = load_seqtr(self.ann_file)
        if self.split not in splits:
            raise InputError(f'{self.ann_file}: no split {self.split!r}; it has {sorted(splits)}')
        sent_id = 0
        for index, record in enumerate(splits[self.split]):
            where = f'{self.ann_file}: {self.split}[{index}]'
            texts, kinds, sent_ids = self._sentences(record, where)
            ids = range(sent_id, sent_id + len(texts)) if sent_ids is None else sent_ids
            sent_id += len(texts)
            source, img_name = self._picture(record, where)
            for field in ('width', 'height'):
                value = record.get(field)
                if value is not None and (not isinstance(value, int) or value <= 0):
                    raise InputError(
                        f'{where}: {field}: expected a positive integer, found {shown(value)}'
                    )
            yield dict(
                where=f'{where} ({shown(img_name)})',
                img_name=img_name,
                img_id=record.get('image_id', img_name),
                source=source,
                height=record.get('height'),
                width=record.get('width'),
                ref_id=record.get('ref_id', index),
                ann_id=record.get('ann_id'),
                box_xywh=record.get('bbox'),
                mask=record.get('mask') or None,
                iscrowd=record.get('iscrowd', 0),
                category=record.get('category'),
                category_id=record.get('category_id'),
                sentences=[
                    dict(text=text, sent_id=i, kind=kind)
                    for text, i, kind in zip(texts, ids, kinds)
                ],
            )

    @staticmethod
    def _sentences(record: Any, where: str) -> tuple[list, list, list | None]:
        """Return the expressions, their kinds, and their ids if the record has them."""
        if not isinstance(record, dict):
            raise InputError(f'{where}: expected a record (dict), found {shown(record)}')
        nothing = type(None)
        check_fields(
            *(record, where),
            image_id=(*IDENTIFIER, nothing),
            ref_id=(*IDENTIFIER, nothing),
            ann_id=(*IDENTIFIER, nothing),
            category=(str, nothing),
            category_id=(*IDENTIFIER, nothing),
            iscrowd=(*NUMBER, nothing),
            expressions=(list, nothing),
        )
        texts = record.get('expressions')
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(
                f'{where}: expressions: expected a list of strings, found {shown(texts)}'
            )
        kinds = record.get('kinds') or [None] * len(texts)
        sent_ids = record.get('sent_ids')
        for field, values in (('kinds', kinds), ('sent_ids', sent_ids)):
            if values is not None and (not isinstance(values, list) or len(values) != len(texts)):
                raise InputError(
                    f'{where}: {field}: expected one for each of the {len(texts)} expressions, '
                    f'found {shown(values)}'
                )
        return texts, kinds, sent_ids

    def _picture(self, record: dict, where: str) -> tuple[str | None, str]:
        """Return the image collection and the file name."""
        source = record.get('data_source')
        if source is not None and not isinstance(source, str):
            raise InputError(f'{where}: data_source: expected a string, found {shown(source)}')
        name = record.get('file_name')
        if source is not None:
            source = canonical_source(source)
        elif name is None:
            source = self.image_source or 'coco'
        if name is None:
            name = self._name_by_id(source, record.get('image_id'), where)
        elif not isinstance(name, str):
            raise InputError(f'{where}: file_name: expected a string, found {shown(name)}')
        return source, name

    def _name_by_id(self, source: str | None, image_id: Any, where: str) -> str:
        if source not in self.IMAGE_NAMES:
            raise InputError(
                f'{where}: data_source: expected one of {sorted(self.IMAGE_NAMES)}, or a '
                f'file_name beside it; found {shown(source)}'
            )
        try:
            return self.IMAGE_NAMES[source].format(int(image_id))
        except (TypeError, ValueError):
            raise InputError(
                f'{where}: image_id: expected a number, found {shown(image_id)}'
            ) from None
