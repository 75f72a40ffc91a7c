"""Data sets of images with captions: Karpathy's and COCO's JSON, and custom files."""

from __future__ import annotations

import os
import re
from typing import Any

from mmengine.registry import DATASETS

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    IDENTIFIER,
    by_id,
    check_fields,
    parse_json,
    read_json,
    read_lines,
    shown,
)

from .base import BaseMatchingDataset

__all__ = [
    'CaptionFileMatchingDataset',
    'COCOCaptionsMatchingDataset',
    'KarpathyMatchingDataset',
]


@DATASETS.register_module()
class KarpathyMatchingDataset(BaseMatchingDataset):
    """Load Karpathy's ``dataset_flickr30k.json`` or ``dataset_coco.json``.

    The format is::

        {"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000522418.jpg",
                     "imgid": 1, "cocoid": 522418, "split": "restval",
                     "sentences": [{"raw": "A woman ...", "tokens": [...], "sentid": 681330}]}]}

    Args:
        split: 'train', 'val' or 'test'. The training split of COCO includes 'restval', as in all
            published results.
        max_captions: Maximum number of captions per image, None for all. The released files have 5.
        kwargs: Additional arguments of :class:`BaseMatchingDataset`.
    """

    def __init__(
        self, ann_file: str, split: str, max_captions: int | None = None, **kwargs
    ) -> None:
        if split not in ('train', 'val', 'test'):
            raise InputError(f"split={split!r}: expected 'train', 'val' or 'test'")
        self.split = split
        self.max_captions = max_captions
        super().__init__(ann_file=ann_file, **kwargs)

    @property
    def source(self) -> str:
        """Return the file and the split, for messages."""
        return f'{self.ann_file} ({self.split})'

    def load_images(self) -> list[dict]:
        """List the images of the split, with their captions."""
        splits = ('train', 'restval') if self.split == 'train' else (self.split,)
        images = []
        for i, entry in enumerate(_read_json(self.ann_file, 'images')['images']):
            where = f'{self.ann_file}: images[{i}]'
            check_fields(entry, where, split=str)
            if entry['split'] not in splits:
                continue
            check_fields(entry, where, filename=str, filepath=(str, type(None)), sentences=list)
            captions = []
            for j, sentence in enumerate(entry['sentences'][: self.max_captions]):
                check_fields(sentence, f'{where}.sentences[{j}]', raw=str)
                captions.append(self._caption(sentence['raw'], f'{where}.sentences[{j}]'))
            if not captions:
                raise InputError(f'{where}: {shown(entry["filename"])} has no sentences')
            parts = (self.data_prefix['img'], entry.get('filepath') or '', entry['filename'])
            ori_id = str(entry.get('cocoid', entry.get('imgid', i)))
            images.append(dict(captions=captions, ori_id=ori_id, img_path=os.path.join(*parts)))
        if not images:
            raise InputError(f'{self.ann_file}: no picture of the split {self.split!r}')
        return images


@DATASETS.register_module()
class COCOCaptionsMatchingDataset(BaseMatchingDataset):
    """Load COCO's ``captions_*.json``.

    The file has ``images`` (id, file_name) and ``annotations`` (image_id, caption). The scene
    generator writes this format too, and mmpretrain's ``COCORetrieval`` reads it. Images keep the
    order of the file.
    """

    def load_images(self) -> list[dict]:
        """List the images of the file, with the captions of its annotations."""
        captions: dict[Any, list[str]] = {}
        content = _read_json(self.ann_file, 'images', 'annotations')
        entries = by_id(content, 'images', self.ann_file, file_name=str)
        for i, annotation in enumerate(content['annotations']):
            where = f'{self.ann_file}: annotations[{i}]'
            check_fields(annotation, where, image_id=IDENTIFIER, caption=str)
            text = self._caption(annotation['caption'], where)
            captions.setdefault(annotation['image_id'], []).append(text)
        images = [
            dict(
                captions=captions.pop(number, []),
                ori_id=str(number),
                img_path=os.path.join(self.data_prefix['img'], entry['file_name']),
            )
            for number, entry in entries.items()
        ]
        if captions:
            raise InputError(
                f'{self.ann_file}: captions of the picture {next(iter(captions))!r}, which is not '
                'among its images'
            )
        bare = [image['ori_id'] for image in images if not image['captions']]
        if bare:
            raise InputError(
                f'{self.ann_file}: {len(bare):,} pictures without captions, the first is {bare[0]}'
            )
        return images


@DATASETS.register_module()
class CaptionFileMatchingDataset(BaseMatchingDataset):
    """Load a folder of custom images with a file of captions.

    The file is either text with an image, a tab and a caption per line (``dog.jpg<TAB>A dog
    runs.``; the name may be followed by ``#0`` as in Flickr30K's ``results_20130124.token``), or
    ``.jsonl`` with ``{"image": "dog.jpg", "caption": "A dog runs."}``, where ``caption`` may be a
    list. Images are ordered by their first line.
    """

    def load_images(self) -> list[dict]:
        """List the images, ordered by their first line."""
        read = self._read_jsonl if self.ann_file.endswith('.jsonl') else self._read_tabs
        captions: dict[str, list[str]] = {}
        for number, line in enumerate(read_lines(self.ann_file), 1):
            if not line.strip():
                continue
            where = f'{self.ann_file}:{number}'
            name, texts = read(line, where)
            captions.setdefault(name, []).extend(self._caption(text, where) for text in texts)
        return [
            dict(captions=texts, ori_id=name, img_path=os.path.join(self.data_prefix['img'], name))
            for name, texts in captions.items()
        ]

    def _read_tabs(self, line: str, where: str) -> tuple[str, list[Any]]:
        name, tab, text = line.partition('\t')
        if not tab or not name.strip():
            raise InputError(f'{where}: {line[:60]!r}, expected picture<TAB>caption')
        return re.sub(r'#\d+$', '', name.strip()), [text]

    def _read_jsonl(self, line: str, where: str) -> tuple[str, list[Any]]:
        entry = parse_json(line, where, '{"image": ..., "caption": ...} on one line')
        check_fields(entry, where, image=str, caption=(str, list))
        texts = entry['caption'] if isinstance(entry['caption'], list) else [entry['caption']]
        if not texts:
            raise InputError(f'{where}: image {shown(entry["image"])} without captions')
        return entry['image'], texts


def _read_json(path: str, *keys: str) -> dict[str, list]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in keys):
        raise InputError(f'{path}: expected json with lists {" and ".join(map(repr, keys))}')
    return content
