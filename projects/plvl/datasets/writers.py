"""Writers for the grounding data that :func:`conversion.read_references` returns."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from projects.common.errors import InputError
from projects.common.files.annotation_files import shown
from projects.common.files.atomic import write_atomically

__all__ = ['META_FIELDS', 'WRITERS', 'output_files']

_SPLIT = re.compile(r'\w[\w.+-]*')
META_FIELDS = ('image_id', 'ref_id', 'category_id', 'iscrowd', 'source')
"""Fields of the refer layout that JSON Lines files keep under ``meta.refer``."""


def output_files(kind: str, out: Path, splits: Iterable[str], by: str) -> list[Path]:
    """List the files that the writer of a format creates.

    Raises:
        ValueError: If a split name from the source cannot be used as a file name.
    """
    splits = list(splits)
    for split in splits if kind == 'jsonl' else ():
        if not _SPLIT.fullmatch(split):
            raise InputError(f'{out}: the split {shown(split)} cannot name a file; choose --splits')
    names = {
        'refer': ['instances.json', f'refs({by}).p'],
        'seqtr': ['instances.json'],
        'jsonl': [f'{split}.jsonl' for split in splits],
    }
    return [out / name for name in names[kind]]


def _known(fields: dict) -> dict:
    return {key: value for key, value in fields.items() if value is not None}


def write_json_lines(splits: dict[str, list[dict]], paths: list[Path]) -> None:
    """Write ``<split>.jsonl`` for each split, to be read by :class:`JSONLinesGroundingDataset`.

    Fields of the refer layout that JSON Lines files do not have are kept under ``meta.refer``.
    Sentences of different kinds about one object are written on separate lines.
    """
    for path, references in zip(paths, splits.values()):
        lines = [json.dumps(line) + '\n' for ref in references for line in _lines(ref)]
        write_atomically(path, ''.join(lines).encode())


def _lines(reference: dict) -> Iterator[dict]:
    sentences = reference['sentences']
    for kind in dict.fromkeys(sentence['kind'] for sentence in sentences):
        of_kind = [sentence for sentence in sentences if sentence['kind'] == kind]
        texts = [sentence['text'] for sentence in of_kind]
        kept = {key: reference[key] for key in META_FIELDS}
        kept['sent_ids'] = [sentence['sent_id'] for sentence in of_kind]
        yield _known(
            dict(
                image=reference['img_name'],
                sentence=texts[0] if len(texts) == 1 else None,
                sentences=texts if len(texts) > 1 else None,
                bbox=reference['box'],
                mask=reference['mask'],
                width=reference['width'],
                height=reference['height'],
                kind=kind,
                category=reference['category'],
                object_id=reference['ann_id'],
                meta=dict(refer=_known(kept)),
            )
        )


def write_seqtr(splits: dict[str, list[dict]], paths: list[Path]) -> None:
    """Write ``instances.json``, to be read by :class:`SeqTRGroundingDataset`."""
    everything = [ref for references in splits.values() for ref in references]
    image_ids = {ref['img_name']: ref['image_id'] for ref in everything}
    if not all(isinstance(number, int) for number in image_ids.values()):
        image_ids = _numbers(everything, 'image_id', lambda ref: ref['img_name'])
    content = {
        split: [
            _known(
                dict(
                    bbox=ref['box_xywh'],
                    expressions=[sentence['text'] for sentence in ref['sentences']],
                    mask=ref['mask'],
                    image_id=image_ids[ref['img_name']],
                    width=ref['width'],
                    height=ref['height'],
                    data_source=ref['source'],
                    file_name=ref['img_name'],
                    ref_id=ref['ref_id'],
                    ann_id=ref['ann_id'],
                    sent_ids=[sentence['sent_id'] for sentence in ref['sentences']],
                    kinds=[sentence['kind'] for sentence in ref['sentences']]
                    if any(sentence['kind'] for sentence in ref['sentences'])
                    else None,
                    category=ref['category'],
                    category_id=ref['category_id'],
                    iscrowd=ref['iscrowd'],
                )
            )
            for ref in references
        ]
        for split, references in splits.items()
    }
    write_atomically(paths[0], json.dumps(content).encode())


def write_refer(splits: dict[str, list[dict]], paths: list[Path]) -> None:
    """Write ``instances.json`` and ``refs(<by>).p``, to be read by :class:`ReferGroundingDataset`.

    Ids are copied from the source if they all exist and are unique; otherwise new ids are counted
    up. Objects without a category get the category 'object'. ``area`` is the number of pixels of
    the mask, or of the box if there is no mask.
    """
    everything = [ref for references in splits.values() for ref in references]

    def object_of(ref: dict) -> Any:
        return ref['img_name'], ref['ann_id'], tuple(ref['box'])

    image_ids = _numbers(everything, 'image_id', lambda ref: ref['img_name'])
    ann_ids = _numbers(everything, 'ann_id', object_of)
    ref_ids = _numbers(everything, 'ref_id', id)
    sent_ids = [s['sent_id'] for ref in everything for s in ref['sentences']]
    keep_sent_ids = _are_unique_numbers(sent_ids)
    category_ids = _category_ids(everything)

    images: dict[int, dict] = {}
    annotations: dict[int, dict] = {}
    refs = []
    sent_id = 0
    for split, references in splits.items():
        for ref in references:
            image_id, ann_id = image_ids[ref['img_name']], ann_ids[object_of(ref)]
            category_id = category_ids[ref['category'], ref['category_id']]
            size = dict(width=ref['width'], height=ref['height'])
            images.setdefault(image_id, dict(id=image_id, file_name=ref['img_name'], **size))
            if ann_id not in annotations:
                annotations[ann_id] = _known(
                    dict(
                        id=ann_id,
                        image_id=image_id,
                        category_id=category_id,
                        bbox=ref['box_xywh'],
                        area=_area(ref),
                        iscrowd=ref['iscrowd'],
                        segmentation=ref['mask'],
                    )
                )
            sentences = []
            for sentence in ref['sentences']:
                text = sentence['text']
                number = sentence['sent_id'] if keep_sent_ids else sent_id
                entry = dict(sent_id=number, raw=text, sent=text, tokens=text.split())
                sentences.append({**entry, **_known(dict(kind=sentence['kind']))})
                sent_id += 1
            refs.append(
                dict(
                    ref_id=ref_ids[id(ref)],
                    ann_id=ann_id,
                    image_id=image_id,
                    category_id=category_id,
                    split=split,
                    file_name=f'{Path(ref["img_name"]).stem}_{ann_id}.jpg',
                    sent_ids=[sentence['sent_id'] for sentence in sentences],
                    sentences=sentences,
                )
            )
    coco = dict(
        info={},
        licenses=[],
        images=list(images.values()),
        annotations=list(annotations.values()),
        categories=[
            dict(id=number, name=name or ('object' if given is None else str(given)))
            for (name, given), number in category_ids.items()
        ],
    )
    write_atomically(paths[0], json.dumps(coco).encode())
    write_atomically(paths[1], pickle.dumps(refs, protocol=2))


def _area(reference: dict) -> float:
    """Return the number of pixels of the mask, or of the box if there is no mask."""
    mask = reference['mask']
    if mask is None:
        return reference['box_xywh'][2] * reference['box_xywh'][3]
    if not isinstance(mask, dict):
        mask = mask_utils.merge(
            mask_utils.frPyObjects(mask, reference['height'], reference['width'])
        )
    return int(mask_utils.area(mask))


def _are_unique_numbers(values: list) -> bool:
    return all(isinstance(v, (int, np.integer)) for v in values) and len(set(values)) == len(values)


def _numbers(references: list[dict], field: str, key: Callable[[dict], Any]) -> dict[Any, int]:
    """Return an id for each key: the source's ids if they are unique numbers, else a count."""
    found: dict[Any, Any] = {}
    for ref in references:
        found.setdefault(key(ref), ref[field])
    if _are_unique_numbers(list(found.values())):
        return {thing: int(number) for thing, number in found.items()}
    return {thing: number for number, thing in enumerate(found, start=1)}


def _category_ids(references: list[dict]) -> dict[tuple[str | None, Any], int]:
    """Return ids for the (name, id) pairs; ids from the source are kept if they are unique."""
    pairs = list(dict.fromkeys((ref['category'], ref['category_id']) for ref in references))
    given = [number for _, number in pairs if number is not None]
    if not _are_unique_numbers(given):
        return {pair: number for number, pair in enumerate(pairs, start=1)}
    ids = {}
    following = max(given, default=0) + 1
    for pair in pairs:
        ids[pair] = pair[1]
        if pair[1] is None:
            ids[pair] = following
            following += 1
    return ids


WRITERS: dict[str, Callable[[dict[str, list[dict]], list[Path]], None]] = dict(
    refer=write_refer, seqtr=write_seqtr, jsonl=write_json_lines
)
