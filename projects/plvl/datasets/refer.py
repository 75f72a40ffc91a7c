"""RefCOCO, RefCOCO+ and RefCOCOg in the layout of the refer toolkit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.errors import InputError
from projects.common.files.annotation_files import by_id, read_json, shown
from projects.common.files.unpickle import load_pickle

from .checks import Invalid, check_annotation, check_ref, check_split
from .dataset import GroundingDataset
from .reference import Reference, Sentence, Target

__all__ = ['ReferGroundingDataset', 'load_refs', 'read_refer']


def load_refs(path: str, trust_pickle: bool = False) -> list[dict]:
    """Load the entries of a ``refs(*).p``.

    Raises:
        ValueError: If the file has another format.
    """
    refs = load_pickle(path, trust=trust_pickle)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise InputError(f'{path}: expected a pickled list of references (dicts)')
    return refs


def load_instances(path: str) -> tuple[dict, dict, dict]:
    """Load the images, annotations and category names of a COCO annotation file by id.

    Raises:
        ValueError: If the file has another format.
    """
    coco = read_json(path)
    if not isinstance(coco, dict) or 'images' not in coco or 'annotations' not in coco:
        raise InputError(
            f'{path}: not a COCO annotation file; images and annotations with ids were expected'
        )
    images = by_id(coco, 'images', path, file_name=str, height=int, width=int)
    categories = by_id({'categories': [], **coco}, 'categories', path, name=str)
    names = {key: category['name'] for key, category in categories.items()}
    return images, by_id(coco, 'annotations', path), names


def target_of(annotation: dict, categories: dict) -> Target:
    """Return the object of a COCO annotation."""
    return Target(
        box=annotation.get('bbox'),
        box_format='xywh',
        mask=annotation.get('segmentation') or None,  # [] if there is none
        ann_id=annotation['id'],
        category=categories.get(annotation.get('category_id')),
        category_id=annotation.get('category_id'),
        iscrowd=annotation.get('iscrowd'),
    )


def sentences_of(ref: dict, sentence_key: str) -> list[Sentence]:
    """Return the sentences of an entry."""
    return [Sentence(s[sentence_key], s['sent_id'], s.get('kind')) for s in ref['sentences']]


@FUNCTIONS.register_module()
def read_refer(
    files: Mapping[str, str],
    split: str | None,
    *,
    sentence_key: str = 'sent',
    trust_pickle: bool = False,
) -> Iterator[Reference | Invalid]:
    """Read RefCOCO, RefCOCO+, RefCOCOg (umd and google) or any data in their layout.

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
        files: ``ann_file`` is ``instances.json``, ``split_file`` is ``refs(*).p``.
        split: 'train', 'val', 'test', 'testA' or 'testB', as named in the split file.
        sentence_key: 'sent' (cleaned and lower-cased by the dataset authors) or 'raw' (as
            written).
        trust_pickle: Load the split file with the ordinary unpickler, which may run code.
    """
    file, ann_file = files['split_file'], files['ann_file']
    refs = load_refs(file, trust_pickle)
    check_split(file, split, {str(ref.get('split')) for ref in refs})
    images, annotations, categories = load_instances(ann_file)
    seen: set = set()
    for index, ref in enumerate(refs):
        if str(ref.get('split')) != split:
            continue
        try:
            check_ref(ref, sentence_key, seen)
            seen.add(ref['ref_id'])
            check_annotation(ref, images, annotations, ann_file)
        except Invalid as invalid:
            yield invalid.at(file, f'reference {index} (ref_id {shown(ref.get("ref_id"))})')
            continue
        image = images[ref['image_id']]
        yield Reference(
            file=file,
            entry=f'ref_id {ref["ref_id"]}, ann_id {ref["ann_id"]}',
            image=image['file_name'],
            sentences=sentences_of(ref, sentence_key),
            targets=[target_of(annotations[ref['ann_id']], categories)],
            image_id=ref['image_id'],
            ref_id=ref['ref_id'],
            height=image['height'],
            width=image['width'],
        )


@DATASETS.register_module()
class ReferGroundingDataset(GroundingDataset):
    """Load RefCOCO, RefCOCO+, RefCOCOg or data in their layout; see :func:`read_refer`.

    Args:
        ann_file: ``instances.json``, relative to ``data_root``.
        split_file: ``refs(*).p``, relative to ``data_root``.
        split: 'train', 'val', 'test', 'testA' or 'testB', as named in the split file.
        sentence_key: 'sent' (cleaned and lower-cased by the dataset authors) or 'raw' (as
            written).
        trust_pickle: Load the split file with the ordinary unpickler, which may run code.
        kwargs: Arguments of :class:`GroundingDataset`. Use ``image_source='saiapr'`` for
            ``refclef`` when it is mixed with other datasets.

    Raises:
        ValueError: If the split file has no such split, or a file has another format.
    """

    READER: Callable[..., Iterator[Reference | Invalid]] = staticmethod(read_refer)

    def __init__(
        self,
        ann_file: str,
        split_file: str,
        split: str,
        sentence_key: str = 'sent',
        *,
        trust_pickle: bool = False,
        **kwargs,
    ) -> None:
        if sentence_key not in ('sent', 'raw'):
            raise InputError(f"sentence_key={sentence_key!r}: expected 'sent' or 'raw'")
        reader = partial(type(self).READER, sentence_key=sentence_key, trust_pickle=trust_pickle)
        super().__init__(ann_file, reader=reader, split_file=split_file, split=split, **kwargs)
