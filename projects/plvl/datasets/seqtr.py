"""SeqTR annotation files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError
from projects.common.files.annotation_files import read_json

from .checks import Invalid, check_seqtr_record, check_split
from .dataset import GroundingDataset
from .image_identity import image_name
from .reference import Reference, Sentence, Target

__all__ = ['SeqTRGroundingDataset', 'load_seqtr', 'read_seqtr']


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


@FUNCTIONS.register_module()
def read_seqtr(
    files: Mapping[str, str], split: str | None, *, image_source: str | None = None
) -> Iterator[Reference | Invalid]:
    """Read a SeqTR ``instances.json``, the format that SimVG, C3VG, DeRIS and PolyFormer use too.

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
        files: ``ann_file`` is the .json file.
        split: Key of the file.
        image_source: The collection of the images of records that have neither ``data_source`` nor
            ``file_name``. None means 'coco'.
    """
    file = files['ann_file']
    splits = load_seqtr(file)
    check_split(file, split, splits)
    for index, record in enumerate(splits[split]):
        entry = f'{split}[{index}]'
        try:
            yield _reference(file, entry, record, image_source or 'coco')
        except Invalid as invalid:
            yield invalid.at(file, entry)


def _reference(file: str, entry: str, record: dict[str, Any], image_source: str) -> Reference:
    check_seqtr_record(record)
    source, image = record.get('data_source'), record.get('file_name')
    if image is None:
        source = source or image_source
        image = image_name(source, record.get('image_id'))
    texts = record['expressions']
    sent_ids = record.get('sent_ids') or [None] * len(texts)
    kinds = record.get('kinds') or [None] * len(texts)
    target = Target(
        box=record.get('bbox'),
        box_format='xywh',
        mask=record.get('mask') or None,
        ann_id=record.get('ann_id'),
        category=record.get('category'),
        category_id=record.get('category_id'),
        iscrowd=record.get('iscrowd'),
    )
    return Reference(
        file=file,
        entry=f'{entry} ({image})',
        image=image,
        sentences=[Sentence(*sentence) for sentence in zip(texts, sent_ids, kinds)],
        targets=[target],
        image_id=record.get('image_id'),
        ref_id=record.get('ref_id'),
        height=record.get('height'),
        width=record.get('width'),
        source=source,
    )


@DATASETS.register_module()
class SeqTRGroundingDataset(GroundingDataset):
    """Load SeqTR annotations, which :func:`read_seqtr` describes.

    Args:
        ann_file: The .json file, relative to ``data_root``.
        split: Key of the file.
        kwargs: Arguments of :class:`GroundingDataset`. Records without ``data_source`` use
            ``image_source``, which defaults to 'coco'.

    Raises:
        ValueError: If the file has no such split, or a record lacks a field or has one of the
            wrong type.
    """

    def __init__(self, ann_file: str, split: str, **kwargs) -> None:
        reader = partial(read_seqtr, image_source=kwargs.get('image_source'))
        super().__init__(ann_file, reader=reader, split=split, **kwargs)
