"""Reading of grounding data in any supported format, split by split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.unpickle import load_pickle

from .base import BaseGroundingDataset
from .image_identity import ImageKey
from .json_lines import read_mask_file
from .seqtr import load_seqtr
from .transvg import TransVGGroundingDataset
from .writers import META_FIELDS

__all__ = ['FORMATS', 'find_format', 'find_refs', 'iter_splits', 'read_references']

FORMATS = ('refer', 'transvg', 'seqtr', 'jsonl', 'flickr30k', 'vg')


def find_format(path: Path) -> str:
    """Detect the format of a file or directory from its file names.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the path matches no known format.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file or folder')
    if path.is_file():
        by_suffix = {'.pth': 'transvg', '.json': 'seqtr', '.jsonl': 'jsonl'}
        if path.suffix in by_suffix:
            return by_suffix[path.suffix]
    elif list(path.glob('refs(*).p')):
        return 'refer'
    elif (path / 'Annotations').is_dir() and (path / 'Sentences').is_dir():
        return 'flickr30k'
    elif (path / 'region_descriptions.json').is_file():
        return 'vg'
    elif list(path.glob('*.pth')):
        return 'transvg'
    elif list(path.glob('*.jsonl')):
        return 'jsonl'
    elif (path / 'instances.json').is_file():
        return 'seqtr'
    raise InputError(
        f'{path}: found no refs(*).p, *.pth, *.jsonl, instances.json, region_descriptions.json, or '
        'Annotations/ with Sentences/; say --from'
    )


def find_refs(folder: Path, by: str | None) -> Path:
    """Find the ``refs(*).p`` of a directory in the refer layout.

    Raises:
        ValueError: If there is none, or there are several and ``by`` does not select one.
    """
    if by is not None:
        path = folder / f'refs({by}).p'
        if path.is_file():
            return path
    found = sorted(file.name for file in folder.glob('refs(*).p'))
    if by is not None or len(found) != 1:
        wanted = f'refs({by}).p' if by is not None else 'one refs(*).p, or --by to choose'
        raise InputError(f'{folder}: found {found or "no refs(*).p"}, expected {wanted}')
    return folder / found[0]


def iter_splits(
    path: Path,
    kind: str,
    *,
    by: str | None = None,
    images: str | None = None,
    check_images: bool = True,
    trust_pickle: bool = False,
    **options: Any,
) -> Iterator[tuple[str, BaseGroundingDataset]]:
    """Yield each split of a source with its dataset, which is not loaded yet.

    Args:
        path: File or directory.
        kind: One of :data:`FORMATS`.
        by: Selects the ``refs(*).p`` of a directory in the refer layout.
        images: Image directory. None does not access the images.
        check_images: Whether every image must be in ``images``.
        trust_pickle: Load pickles with the ordinary unpickler, which may run code.
        options: Further arguments of the dataset.

    Raises:
        ValueError: If there is nothing to read.
    """
    base = dict(
        data_prefix=dict(img=os.path.abspath(images or '.')),
        check_images=check_images and images is not None,
        trust_pickle=trust_pickle,
        lazy_init=True,
        **options,
    )
    configs = list(_split_configs(path, kind, by, trust_pickle))
    if not configs:
        raise InputError(f'{path}: nothing of the format {kind!r} found')
    for split, cfg in configs:
        yield split, DATASETS.build({**base, **cfg})


def _split_configs(
    path: Path, kind: str, by: str | None, trust_pickle: bool
) -> Iterator[tuple[str, dict]]:
    if kind == 'refer':
        split_file = find_refs(path, by)
        refs = load_pickle(split_file, trust=trust_pickle)
        if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
            raise InputError(f'{split_file}: expected a pickled list of references (dicts)')
        for split in dict.fromkeys(str(ref.get('split')) for ref in refs):
            yield (
                split,
                dict(
                    type='ReferGroundingDataset',
                    ann_file=str(path / 'instances.json'),
                    split_file=str(split_file),
                    split=split,
                ),
            )
    elif kind == 'transvg':
        for file in [path] if path.is_file() else sorted(path.glob('*.pth')):
            split = file.stem.rsplit('_', 1)[-1]
            yield split, dict(type='TransVGGroundingDataset', ann_file=str(file))
    elif kind == 'seqtr':
        file = path if path.is_file() else path / 'instances.json'
        for split in load_seqtr(file):
            yield split, dict(type='SeqTRGroundingDataset', ann_file=str(file), split=split)
    elif kind == 'jsonl':
        for file in [path] if path.is_file() else sorted(path.glob('*.jsonl')):
            cfg = dict(data_root=str(file.parent.absolute()), ann_file=file.name)  # for mask files
            yield file.stem, dict(type='JSONLinesGroundingDataset', **cfg)
    elif kind == 'flickr30k':
        for split in ('train', 'val', 'test'):
            if (path / f'{split}.txt').is_file():
                cfg = dict(ann_file=str(path / f'{split}.txt'))
                yield split, dict(type='Flickr30kEntitiesDataset', **cfg)
    else:
        yield (
            'train',
            dict(
                type='VisualGenomeRegionDataset',
                ann_file=str(path / 'region_descriptions.json'),
                vg_image_data=str(path / 'image_data.json'),
            ),
        )


def read_references(dataset: BaseGroundingDataset, need_sizes: bool = False) -> list[dict]:
    """Read the valid references of a split, merging the sentences about one object.

    Args:
        dataset: The dataset, which need not be loaded.
        need_sizes: Read image sizes that are not annotated.

    Returns:
        Dicts with ``img_name``, ``image_id``, ``width``, ``height``, ``ref_id``, ``ann_id``,
        ``box`` (XYXY), ``box_xywh``, ``mask`` (polygons, RLE or None), ``category``,
        ``category_id``, ``iscrowd``, ``source`` and ``sentences`` (``text``, ``sent_id``,
        ``kind``).

    Raises:
        ValueError: If a size is needed and there are no images to read it from, or a reference is
            invalid and the dataset does not skip invalid ones.
    """
    merged: dict[Any, dict] = {}
    for raw, samples in dataset.valid_references(read_sizes=need_sizes and dataset.check_images):
        if not samples:  # every sentence is empty
            continue
        reference = _complete(raw, samples, dataset.image_keys[samples[0]['img_path']][0])
        if need_sizes and reference['height'] is None:
            raise InputError(
                f'{raw["where"]}: the size of the image is not annotated, and the format to '
                'write needs it; say --images to read it from there'
            )
        first = merged.setdefault(_identity(dataset, reference, raw), reference)
        if first is not reference:
            first['sentences'] += reference['sentences']
            first['sentences'].sort(key=lambda sentence: sentence['sent_id'])
    return list(merged.values())


def _complete(raw: dict, samples: list[dict], image_key: ImageKey) -> dict:
    first = samples[0]
    mask = first['instances'][0].get('mask')
    if isinstance(mask, str):
        mask = read_mask_file(mask)
    collection, image_id = image_key if image_key[0] != 'file' else (None, None)
    if isinstance(raw['img_id'], (int, np.integer)):
        image_id = raw['img_id']
    reference = dict(
        img_name=raw['img_name'],
        image_id=image_id,
        width=raw.get('width'),
        height=raw.get('height'),
        ref_id=raw['ref_id'],
        ann_id=raw['ann_id'],
        mask=mask,
        category=raw.get('category'),
        category_id=raw.get('category_id'),
        iscrowd=int(bool(raw.get('iscrowd'))),
        source=collection,
    )
    kept = _kept(raw)
    reference.update({key: kept[key] for key in META_FIELDS if key in kept})
    given = [sentence['sent_id'] for sentence in raw['sentences']]
    sent_ids = dict(zip(given, kept.get('sent_ids', given)))
    reference['sentences'] = [
        dict(text=sample['text'], sent_id=sent_ids[sample['sent_id']], kind=sample['kind'])
        for sample in samples
    ]
    # Keep the annotated format, because x + w - x is not always w in floating point.
    if 'box_xywh' in raw:
        x, y, w, h = (float(value) for value in raw['box_xywh'])
        reference.update(box=[x, y, x + w, y + h], box_xywh=[x, y, w, h])
    else:
        box = raw.get('box')
        x1, y1, x2, y2 = map(float, first['instances'][0]['bbox'] if box is None else box)
        box_xywh = [x1, y1, round(x2 - x1, 9), round(y2 - y1, 9)]
        reference.update(box=[x1, y1, x2, y2], box_xywh=box_xywh)
    return reference


def _kept(raw: dict) -> dict:
    """Return the fields that :func:`write_json_lines` kept under ``meta.refer``, if valid."""
    meta = raw.get('meta')
    kept = meta.get('refer') if isinstance(meta, dict) else None
    if not isinstance(kept, dict):
        return {}
    sent_ids = kept.get('sent_ids')
    is_ours = (
        isinstance(sent_ids, list)
        and len(sent_ids) == len(raw['sentences'])
        and all(isinstance(number, int) for number in sent_ids)
    )
    return kept if is_ours else {}


def _identity(dataset: BaseGroundingDataset, reference: dict, raw: dict) -> Any:
    """Return a key that all entries about one object share, even with one entry per sentence."""
    if isinstance(dataset, TransVGGroundingDataset):
        return reference['img_name'], reference['ann_id'], tuple(reference['box'])
    if 'ref_id' in _kept(raw):
        return reference['img_name'], reference['ref_id']
    return raw['where']
