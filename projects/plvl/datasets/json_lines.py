"""Custom grounding data: an image directory and a JSON Lines file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import DATASETS, FUNCTIONS

from projects.common.files.annotation_files import read_lines

from .checks import Invalid, check_json_line
from .dataset import GroundingDataset
from .reference import Reference, Sentence, Target

__all__ = ['JSONLinesGroundingDataset', 'read_json_lines']


@FUNCTIONS.register_module()
def read_json_lines(
    files: Mapping[str, str], split: str | None = None, *, restore_ids: bool = False
) -> Iterator[Reference | Invalid]:
    """Read a file with one JSON object per line, each about one object in one image.

    ::

        {"image": "kitchen/001.jpg", "sentence": "the red mug", "bbox": [34, 50, 97.5, 120]}
        {"image": "kitchen/001.jpg", "sentences": ["left spoon", "the spoon by the mug"],
         "mask": [[10, 10, 60, 12, 58, 30]]}
        {"image": "kitchen/002.jpg", "sentence": "a plate", "mask": "masks/002_plate.png"}

    (The second object is wrapped here only to fit.) A line may also list the objects, of which
    there may be none or several; the dataset then needs ``targets='any'``::

        {"image": "kitchen/002.jpg", "sentence": "the forks", "objects": [
         {"bbox": [3, 5, 40, 90]}, {"bbox": [50, 5, 80, 92]}]}
        {"image": "kitchen/002.jpg", "sentence": "the blue cup", "objects": []}

    Fields:

    - ``image``: path relative to the image directory.
    - ``sentence`` or ``sentences``: a string, or a list of strings about the same object.
    - ``bbox``: [x1, y1, x2, y2] in pixels of the upright image; computed from the mask if absent.
    - ``mask``: COCO polygons, COCO RLE, or the path (relative to ``data_root``) of an image of the
      same size whose nonzero pixels belong to the object. Optional if there is a ``bbox``; without
      a mask the sample trains and tests boxes only.
    - ``width``, ``height``: optional; read from the image header when needed.
    - ``kind``, ``category``: optional strings for results by group.
    - ``object_id``: optional number or string, the same for all lines about one object.
    - ``objects``: instead of ``bbox``, ``mask``, ``category`` and ``object_id``, a list of objects
      with these fields: all that the sentences refer to, ``[]`` if nothing in the image fits.
    - ``meta``: optional; any other data, which is ignored (the converter stores the ids of the
      refer layout there, under ``refer``).

    Args:
        files: ``ann_file`` is the file, ``data_root`` the directory of the mask images.
        split: Not used; each file is one split.
        restore_ids: Give lines that the converter has written the ids of the refer layout back.
    """
    file = files['ann_file']
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        try:
            fields = check_json_line(line)
        except Invalid as invalid:
            yield invalid.at(file, number)
            continue
        objects = fields.get('objects', [fields])
        texts = fields['sentences'] if 'sentences' in fields else [fields['sentence']]
        reference = Reference(
            file=file,
            entry=number,
            image=fields['image'],
            sentences=[Sentence(text, kind=fields.get('kind')) for text in texts],
            targets=[_target(each, files['data_root']) for each in objects],
            ref_id=number,
            height=fields.get('height'),
            width=fields.get('width'),
        )
        if restore_ids:
            _restore_ids(reference, fields.get('meta'))
        yield reference


def _target(fields: Mapping[str, Any], data_root: str) -> Target:
    box, mask = fields.get('bbox'), fields.get('mask') or None
    return Target(
        box=box,
        box_format='mask' if box is None else 'xyxy',
        mask=os.path.join(data_root, mask) if isinstance(mask, str) else mask,
        ann_id=fields.get('object_id'),
        category=fields.get('category'),
    )


def _restore_ids(reference: Reference, meta: Any) -> None:
    kept = meta.get('refer') if isinstance(meta, dict) else None
    if not isinstance(kept, dict):
        return
    sent_ids = kept.get('sent_ids')
    if not isinstance(sent_ids, list) or len(sent_ids) != len(reference.sentences):
        return  # not written by the converter
    for sentence, sent_id in zip(reference.sentences, sent_ids):
        sentence.sent_id = sent_id
    reference.ref_id = kept.get('ref_id', reference.ref_id)
    reference.image_id = kept.get('image_id')
    reference.source = kept.get('source')
    for i, target in enumerate(reference.targets):
        for field in ('category_id', 'iscrowd'):
            value = kept.get(field)
            if isinstance(value, list):  # of a line with objects, in their order
                value = value[i] if i < len(value) else None
            setattr(target, field, value)


@DATASETS.register_module()
class JSONLinesGroundingDataset(GroundingDataset):
    """Load a file with one JSON object per line, which :func:`read_json_lines` describes.

    Config for a directory ``mydata`` with ``train.jsonl`` and ``images/``::

        dict(type='JSONLinesGroundingDataset', data_root='mydata', ann_file='train.jsonl',
             data_prefix=dict(img='images'), pipeline=train_pipeline)

    Args:
        ann_file: The file, relative to ``data_root``.
        kwargs: Arguments of :class:`GroundingDataset`.

    Raises:
        ValueError: If a line does not have this form; the message starts with file:line. Wrong
            types and unknown fields raise even with ``skip_invalid``, which only covers damaged
            samples.
    """

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file, reader=read_json_lines, **kwargs)
