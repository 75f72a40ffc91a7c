"""RefCOCO, RefCOCO+ and RefCOCOg in the layout of the refer toolkit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    by_id,
    check_fields,
    read_json,
    shown,
)
from projects.common.files.unpickle import load_pickle

from .annotations import InvalidSampleError
from .base import BaseGroundingDataset

__all__ = ['ReferGroundingDataset']


@DATASETS.register_module()
class ReferGroundingDataset(BaseGroundingDataset):
    """Load RefCOCO, RefCOCO+, RefCOCOg (umd and google) or any data in their layout.

    ::

        data_root
        ├── images/train2014/COCO_train2014_000000000154.jpg
        ├── refcoco/{instances.json, refs(unc).p, refs(google).p}
        ├── refcoco+/{instances.json, refs(unc).p}
        ├── refcocog/{instances.json, refs(umd).p, refs(google).p}
        └── refclef/{instances.json, refs(unc).p, refs(berkeley).p}    # ReferItGame

    ``instances.json`` is a COCO annotation file. ``refs(*).p`` is a pickled list::

        [{
            'ref_id': 0, 'ann_id': 590410, 'image_id': 154, 'category_id': 24,
            'split': 'train',
            'file_name': 'COCO_train2014_000000000154_0.jpg',   # not the name of the image file
            'sent_ids': [0, 1],
            'sentences': [
                # 'kind' is optional: 'attribute', 'position', ... for results by kind
                {'sent_id': 0, 'sent': 'zebra at the bottom', 'raw': 'Zebra at the bottom',
                 'tokens': ['zebra', 'at', 'the', 'bottom']},
                ...
            ],
        }, ...]

    Number of expressions: RefCOCO 120,624 train / 10,834 val / 5,657 testA / 5,095 testB,
    RefCOCO+ 120,191 / 10,758 / 5,726 / 4,889, RefCOCOg-umd 80,512 train / 4,896 val / 9,602 test.

    Args:
        ann_file: ``instances.json``, relative to ``data_root``.
        split_file: ``refs(*).p``, relative to ``data_root``.
        split: 'train', 'val', 'test', 'testA' or 'testB', as named in the split file.
        sentence_key: 'sent' (cleaned and lower-cased by the dataset authors) or 'raw' (as
            written).
        kwargs: Arguments of :class:`BaseGroundingDataset`. Use ``image_source='saiapr'`` for
            ``refclef`` when it is mixed with other datasets.

    Raises:
        ValueError: If the split file has no such split, or a file has another format.
    """

    def __init__(
        self,
        ann_file: str,
        split_file: str,
        split: str,
        sentence_key: str = 'sent',
        **kwargs,
    ) -> None:
        if sentence_key not in ('sent', 'raw'):
            raise InputError(f"sentence_key={sentence_key!r}: expected 'sent' or 'raw'")
        self.split_file = split_file
        self.split = split
        self.sentence_key = sentence_key
        super().__init__(ann_file=ann_file, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        self.split_file = os.path.join(self.data_root, self.split_file)

    def _check_files(self) -> None:
        super()._check_files()
        if not os.path.isfile(self.split_file):
            raise FileNotFoundError(self._not_found('split_file', self.split_file))

    def iter_references(self) -> Iterator[dict]:
        """Yield one reference per usable entry of the split file."""
        refs = load_pickle(self.split_file, trust=self.trust_pickle)
        if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
            raise InputError(f'{self.split_file}: expected a pickled list of references (dicts)')
        splits = {str(ref.get('split')) for ref in refs}
        if self.split not in splits:
            raise InputError(
                f'{self.split_file}: no split {self.split!r}; it has {shown(sorted(splits), 200)}'
            )
        images, annotations, categories = self._index_annotations()
        seen: dict[Any, dict] = {}
        for index, ref in enumerate(refs):
            if str(ref.get('split')) != self.split:
                continue
            self._check_reference(ref, index)
            if seen.setdefault(ref['ref_id'], ref) is not ref:
                raise InputError(
                    f'{self.split_file}: reference {index} (ref_id {ref["ref_id"]}): an earlier '
                    'one has that ref_id'
                )
            try:
                reference = self._make_reference(ref, images, annotations, categories)
            except InvalidSampleError as error:
                where = f'{self.split_file}: ref_id {ref["ref_id"]}'
                self.leave_out(where, error, len(ref['sentences']))
            else:
                yield reference

    def _check_reference(self, ref: dict, index: int) -> None:
        """Check the fields that are read from an entry of the split file."""
        where = f'{self.split_file}: reference {index} (ref_id {shown(ref.get("ref_id"))})'
        ids = dict.fromkeys(('ref_id', 'ann_id', 'image_id'), IDENTIFIER)
        check_fields(ref, where, **ids, sentences=list)
        for sentence in ref['sentences']:
            check_fields(sentence, where, sent_id=IDENTIFIER, kind=(str, type(None)))
            if self.sentence_key not in sentence:
                raise InputError(f'{where}: no field {self.sentence_key!r} in a sentence')

    def _index_annotations(self) -> tuple[dict, dict, dict]:
        """Index the images, annotations and category names of ``ann_file`` by id."""
        path = self.ann_file
        coco = read_json(path)
        if not isinstance(coco, dict) or 'images' not in coco or 'annotations' not in coco:
            raise InputError(
                f'{path}: not a COCO annotation file; images and annotations with ids were expected'
            )
        categories = by_id({'categories': [], **coco}, 'categories', path, name=str)
        return (
            by_id(coco, 'images', path, file_name=str, height=int, width=int),
            by_id(coco, 'annotations', path),
            {key: category['name'] for key, category in categories.items()},
        )

    def _make_reference(self, ref: dict, images: dict, annotations: dict, categories: dict) -> dict:
        """Convert an entry of the split file and its annotation to the common form."""
        image = images.get(ref['image_id'])
        if image is None:
            raise InvalidSampleError(
                f'no annotation: image_id {ref["image_id"]} is not in {self.ann_file}'
            )
        reference = dict(
            where=f'{self.split_file}: ref_id {ref["ref_id"]}',
            img_name=image['file_name'],
            img_id=ref['image_id'],
            height=image['height'],
            width=image['width'],
            ref_id=ref['ref_id'],
            ann_id=ref['ann_id'],
            sentences=[
                dict(
                    text=sentence[self.sentence_key],
                    sent_id=sentence['sent_id'],
                    kind=sentence.get('kind'),
                )
                for sentence in ref['sentences']
            ],
        )
        annotation = annotations.get(ref['ann_id'])
        if annotation is None:
            reference['error'] = InvalidSampleError(
                f'no annotation: ann_id {ref["ann_id"]} is not in {self.ann_file}'
            )
            return reference
        where = f'{self.ann_file}: annotation {ref["ann_id"]}'
        check_fields(
            *(annotation, where),
            image_id=IDENTIFIER,
            category_id=(*IDENTIFIER, type(None)),
            iscrowd=(int, type(None)),
        )
        if 'bbox' not in annotation:
            raise InputError(f"{where}: no field 'bbox'")
        if annotation['image_id'] != ref['image_id']:
            reference['error'] = InvalidSampleError(
                f'no annotation: ann_id {ref["ann_id"]} is of image {annotation["image_id"]}, '
                f'the reference of image {ref["image_id"]}'
            )
            return reference
        reference['where'] += f', ann_id {ref["ann_id"]}'
        category_id = annotation.get('category_id')
        reference.update(
            box_xywh=annotation['bbox'],
            mask=annotation.get('segmentation'),
            iscrowd=annotation.get('iscrowd') or 0,
            category=categories.get(category_id),
            category_id=category_id,
        )
        return reference
