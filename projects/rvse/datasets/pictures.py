"""Pictures themselves with captions: Karpathy's json, COCO's, and files of one's own."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from mmengine.registry import DATASETS

from .base import BaseMatchingDataset, read_lines

__all__ = [
    'CaptionFileMatchingDataset',
    'COCOCaptionsMatchingDataset',
    'KarpathyMatchingDataset',
]


@DATASETS.register_module()
class KarpathyMatchingDataset(BaseMatchingDataset):
    """Karpathy's ``dataset_flickr30k.json`` and ``dataset_coco.json``::

        {"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000522418.jpg",
                     "imgid": 1, "cocoid": 522418, "split": "restval",
                     "sentences": [{"raw": "A woman ...", "tokens": [...], "sentid": 681330}]}]}

    Args:
        split: 'train', 'val' or 'test'. The training split of COCO takes 'restval' in, as all
            published numbers do.
        max_captions: The most captions of a picture, None for all. The released files have 5.
        kwargs: Further arguments of :class:`BaseMatchingDataset`.
    """

    def __init__(
        self, ann_file: str, split: str, max_captions: int | None = None, **kwargs
    ) -> None:
        if split not in ('train', 'val', 'test'):
            raise ValueError(f"split={split!r}: expected 'train', 'val' or 'test'")
        self.split = split
        self.max_captions = max_captions
        super().__init__(ann_file=ann_file, **kwargs)

    @property
    def source(self) -> str:
        return f'{self.ann_file} ({self.split})'

    def load_images(self) -> list[dict]:
        splits = ('train', 'restval') if self.split == 'train' else (self.split,)
        images = []
        for i, entry in enumerate(_read_json(self.ann_file, 'images')[0]):
            where = f'{self.ann_file}: images[{i}]'
            try:
                if entry['split'] not in splits:
                    continue
                parts = (self.data_prefix['img'], entry.get('filepath', ''), entry['filename'])
                texts = [s['raw'] for s in entry['sentences']][: self.max_captions]
                ori_id = str(entry.get('cocoid', entry.get('imgid', i)))
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f'{where}: no {error}, expected filename, split and sentences with raw'
                ) from None
            captions = [
                self._caption(text, f'{where}.sentences[{j}]') for j, text in enumerate(texts)
            ]
            if not captions:
                raise ValueError(f'{where}: {entry["filename"]} has no sentences')
            images.append(dict(captions=captions, ori_id=ori_id, img_path=os.path.join(*parts)))
        if not images:
            raise ValueError(f'{self.ann_file}: no picture of the split {self.split!r}')
        return images


@DATASETS.register_module()
class COCOCaptionsMatchingDataset(BaseMatchingDataset):
    """COCO's ``captions_*.json``: ``images`` (id, file_name), ``annotations`` (image_id, caption).

    Also what the scenes' generator writes, and mmpretrain's ``COCORetrieval`` reads. Pictures
    come in the file's order.
    """

    def load_images(self) -> list[dict]:
        captions: dict[Any, list[str]] = {}
        entries, annotations = _read_json(self.ann_file, 'images', 'annotations')
        try:
            for i, annotation in enumerate(annotations):
                text = self._caption(annotation['caption'], f'{self.ann_file}: annotations[{i}]')
                captions.setdefault(annotation['image_id'], []).append(text)
            images = [
                dict(
                    captions=captions.pop(entry['id'], []),
                    ori_id=str(entry['id']),
                    img_path=os.path.join(self.data_prefix['img'], entry['file_name']),
                )
                for entry in entries
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f'{self.ann_file}: no {error}, expected images with id and file_name, and '
                'annotations with image_id and caption'
            ) from None
        if captions:
            raise ValueError(
                f'{self.ann_file}: captions of the picture {next(iter(captions))!r}, which is not '
                'among its images'
            )
        bare = [image['ori_id'] for image in images if not image['captions']]
        if bare:
            raise ValueError(
                f'{self.ann_file}: {len(bare):,} pictures without captions, the first is {bare[0]}'
            )
        return images


@DATASETS.register_module()
class CaptionFileMatchingDataset(BaseMatchingDataset):
    """A folder of one's own pictures with a file of captions.

    Either text with one caption a line, the picture before a tab (``dog.jpg<TAB>A dog runs.``;
    the ``#0`` of Flickr30K's own ``results_20130124.token`` may follow the name), or ``.jsonl``
    with ``{"image": "dog.jpg", "caption": "A dog runs."}``, where ``caption`` may be a list.
    Pictures come in the order of their first line.
    """

    def load_images(self) -> list[dict]:
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
            raise ValueError(f'{where}: {line[:60]!r}, expected picture<TAB>caption')
        return re.sub(r'#\d+$', '', name.strip()), [text]

    def _read_jsonl(self, line: str, where: str) -> tuple[str, list[Any]]:
        try:
            entry = json.loads(line)
            name, texts = entry['image'], entry['caption']
        except (ValueError, KeyError, TypeError):
            raise ValueError(f'{where}: expected {{"image": ..., "caption": ...}}') from None
        texts = texts if isinstance(texts, list) else [texts]
        if not isinstance(name, str) or not texts:
            raise ValueError(f'{where}: image {name!r} with {len(texts)} captions')
        return name, texts


def _read_json(path: str, *keys: str) -> list[list[dict]]:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        lists = [content[key] for key in keys]
    except (ValueError, KeyError, TypeError):
        lists = [None]
    if not all(isinstance(entries, list) for entries in lists):
        raise ValueError(f'{path}: expected json with lists {" and ".join(map(repr, keys))}')
    return lists
