"""Writers for the references that :func:`conversion.read_references` returns."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_utils

from projects.common.errors import InputError
from projects.common.files.annotation_files import shown
from projects.common.files.atomic import write_atomically

from .reference import Reference, Target

__all__ = ['output_files', 'write_json_lines', 'write_refer', 'write_seqtr']

_SPLIT = re.compile(r'\w[\w.+-]*')


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


def write_json_lines(splits: dict[str, list[Reference]], paths: list[Path]) -> None:
    """Write ``<split>.jsonl`` for each split, to be read by :class:`JSONLinesGroundingDataset`.

    Fields of the refer layout that JSON Lines files do not have are kept under ``meta.refer``.
    Sentences of different kinds about one object are written on separate lines. Sentences about no
    object or several have ``objects``.
    """
    for path, references in zip(paths, splits.values()):
        lines = [json.dumps(line) + '\n' for ref in references for line in _lines(ref)]
        write_atomically(path, ''.join(lines).encode())


def _lines(reference: Reference) -> Iterator[dict]:
    targets = reference.targets
    single = targets[0] if len(targets) == 1 else None
    objects = [_object(target) for target in targets]
    for kind in dict.fromkeys(sentence.kind for sentence in reference.sentences):
        of_kind = [sentence for sentence in reference.sentences if sentence.kind == kind]
        texts = [sentence.text for sentence in of_kind]
        kept = dict(
            image_id=reference.image_id,
            ref_id=reference.ref_id,
            category_id=single.category_id if single else [t.category_id for t in targets],
            iscrowd=_crowd(single) if single else [_crowd(target) for target in targets],
            source=reference.source,
            sent_ids=[sentence.sent_id for sentence in of_kind],
        )
        yield _known(
            dict(
                image=reference.image,
                sentence=texts[0] if len(texts) == 1 else None,
                sentences=texts if len(texts) > 1 else None,
                bbox=objects[0]['bbox'] if single else None,
                mask=single.mask if single else None,
                objects=None if single else objects,
                width=reference.width,
                height=reference.height,
                kind=kind,
                category=single.category if single else None,
                object_id=single.ann_id if single else None,
                meta=dict(refer=_known(kept)),
            )
        )


def _object(target: Target) -> dict:
    return _known(
        dict(
            bbox=target.box_xyxy(),
            mask=target.mask,
            category=target.category,
            object_id=target.ann_id,
        )
    )


def _crowd(target: Target) -> int:
    return int(bool(target.iscrowd))


def write_seqtr(splits: dict[str, list[Reference]], paths: list[Path]) -> None:
    """Write ``instances.json``, to be read by :class:`SeqTRGroundingDataset`."""
    everything = [ref for references in splits.values() for ref in references]
    image_ids: dict[str, Any] = {ref.image: ref.image_id for ref in everything}
    if not all(isinstance(number, int) for number in image_ids.values()):
        image_ids = _numbers((ref.image, ref.image_id) for ref in everything)
    content = {
        split: [
            _known(
                dict(
                    bbox=ref.target.box_xywh(),
                    expressions=[sentence.text for sentence in ref.sentences],
                    mask=ref.target.mask,
                    image_id=image_ids[ref.image],
                    width=ref.width,
                    height=ref.height,
                    data_source=ref.source,
                    file_name=ref.image,
                    ref_id=ref.ref_id,
                    ann_id=ref.target.ann_id,
                    sent_ids=[sentence.sent_id for sentence in ref.sentences],
                    kinds=[sentence.kind for sentence in ref.sentences]
                    if any(sentence.kind for sentence in ref.sentences)
                    else None,
                    category=ref.target.category,
                    category_id=ref.target.category_id,
                    iscrowd=_crowd(ref.target),
                )
            )
            for ref in references
        ]
        for split, references in splits.items()
    }
    write_atomically(paths[0], json.dumps(content).encode())


def write_refer(splits: dict[str, list[Reference]], paths: list[Path]) -> None:
    """Write ``instances.json`` and ``refs(<by>).p``, to be read by :class:`ReferGroundingDataset`.

    Ids are copied from the source if they all exist and are unique; otherwise new ids are counted
    up. Objects without a category get the category 'object'. ``area`` is the number of pixels of
    the mask, or of the box if there is no mask.
    """
    everything = [ref for references in splits.values() for ref in references]

    def object_of(ref: Reference) -> Any:
        return ref.image, ref.target.ann_id, tuple(ref.target.box_xyxy())

    image_ids = _numbers((ref.image, ref.image_id) for ref in everything)
    ann_ids = _numbers((object_of(ref), ref.target.ann_id) for ref in everything)
    ref_ids = _numbers((id(ref), ref.ref_id) for ref in everything)
    sent_ids = [sentence.sent_id for ref in everything for sentence in ref.sentences]
    keep_sent_ids = _are_unique_numbers(sent_ids)
    category_ids = _category_ids(everything)

    images: dict[int, dict] = {}
    annotations: dict[int, dict] = {}
    refs = []
    sent_id = 0
    for split, references in splits.items():
        for ref in references:
            target = ref.target
            image_id, ann_id = image_ids[ref.image], ann_ids[object_of(ref)]
            category_id = category_ids[target.category, target.category_id]
            size = dict(width=ref.width, height=ref.height)
            images.setdefault(image_id, dict(id=image_id, file_name=ref.image, **size))
            if ann_id not in annotations:
                annotations[ann_id] = _known(
                    dict(
                        id=ann_id,
                        image_id=image_id,
                        category_id=category_id,
                        bbox=target.box_xywh(),
                        area=_area(ref),
                        iscrowd=_crowd(target),
                        segmentation=target.mask,
                    )
                )
            sentences = []
            for sentence in ref.sentences:
                text = sentence.text
                number = sentence.sent_id if keep_sent_ids else sent_id
                entry = dict(sent_id=number, raw=text, sent=text, tokens=text.split())
                sentences.append({**entry, **_known(dict(kind=sentence.kind))})
                sent_id += 1
            refs.append(
                dict(
                    ref_id=ref_ids[id(ref)],
                    ann_id=ann_id,
                    image_id=image_id,
                    category_id=category_id,
                    split=split,
                    file_name=f'{Path(ref.image).stem}_{ann_id}.jpg',
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


def _area(reference: Reference) -> float:
    """Return the number of pixels of the mask, or of the box if there is no mask."""
    mask = reference.target.mask
    if mask is None:
        _, _, width, height = reference.target.box_xywh()
        return width * height
    if not isinstance(mask, dict):
        polygons = mask_utils.frPyObjects(mask, reference.height, reference.width)
        mask = mask_utils.merge(polygons)
    return int(mask_utils.area(mask))


def _are_unique_numbers(values: list) -> bool:
    return all(isinstance(v, (int, np.integer)) for v in values) and len(set(values)) == len(values)


def _numbers(ids: Iterable[tuple[Any, Any]]) -> dict[Any, int]:
    """Return an id for each key: the source's ids if they are unique numbers, else a count."""
    found: dict[Any, Any] = {}
    for key, number in ids:
        found.setdefault(key, number)
    if _are_unique_numbers(list(found.values())):
        return {thing: int(number) for thing, number in found.items()}
    return {thing: number for number, thing in enumerate(found, start=1)}


def _category_ids(references: list[Reference]) -> dict[tuple[str | None, Any], int]:
    """Return ids for the (name, id) pairs; ids from the source are kept if they are unique."""
    pairs = list(dict.fromkeys((ref.target.category, ref.target.category_id) for ref in references))
    given: list[Any] = [number for _, number in pairs if number is not None]
    if not _are_unique_numbers(given):
        return {pair: number for number, pair in enumerate(pairs, start=1)}
    ids: dict[tuple[str | None, Any], Any] = {}
    following = max(given, default=0) + 1
    for pair in pairs:
        ids[pair] = pair[1]
        if pair[1] is None:
            ids[pair] = following
            following += 1
    return ids
