"""Data sets of images with captions: Karpathy's and COCO's JSON, and custom files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
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
from projects.common.files.tables import IMAGE_COLUMNS, find_column, find_separator, read_rows

from .base import BaseMatchingDataset

__all__ = [
    'CAPTION_COLUMNS',
    'CaptionFileMatchingDataset',
    'COCOCaptionsMatchingDataset',
    'KarpathyMatchingDataset',
]

CAPTION_COLUMNS = ('caption', 'captions', 'comment', 'title', 'text', 'sentence', 'description')
"""Names of columns with captions, in lower case. If a table has several, the first counts."""
_TABLE = (
    f'a header with an image ({", ".join(IMAGE_COLUMNS)}) and a caption '
    f'({", ".join(CAPTION_COLUMNS)})'
)


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
            captions: list[str] = []
            ids: list[Any] = []
            for j, sentence in enumerate(entry['sentences']):
                if len(captions) == self.max_captions:
                    break
                check_fields(sentence, f'{where}.sentences[{j}]', raw=str)
                found = self._caption(sentence['raw'], f'{where}.sentences[{j}]')
                captions += found
                ids += [sentence.get('sentid')] * len(found)
            parts = (self.data_prefix['img'], entry.get('filepath') or '', entry['filename'])
            ori_id = str(entry.get('cocoid', entry.get('imgid', i)))
            image = dict(captions=captions, ori_id=ori_id, img_path=os.path.join(*parts))
            images.append(image if None in ids else dict(image, caption_ids=ids))
        if not images:
            raise InputError(f'{self.ann_file}: no image of the split {self.split!r}')
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
        ids: dict[Any, list[Any]] = {}
        content = _read_json(self.ann_file, 'images', 'annotations')
        entries = by_id(content, 'images', self.ann_file, file_name=str)
        for i, annotation in enumerate(content['annotations']):
            where = f'{self.ann_file}: annotations[{i}]'
            check_fields(annotation, where, image_id=IDENTIFIER, caption=str)
            own = captions.setdefault(annotation['image_id'], [])
            found = self._caption(annotation['caption'], where)
            own += found
            numbers = ids.setdefault(annotation['image_id'], [])
            numbers += [annotation.get('id', '')] * len(found)
        images = [
            dict(
                captions=captions.pop(number, []),
                caption_ids=ids.get(number, []),
                ori_id=str(number),
                img_path=os.path.join(self.data_prefix['img'], entry['file_name']),
            )
            for number, entry in entries.items()
        ]
        if captions:
            raise InputError(
                f'{self.ann_file}: captions of the image {next(iter(captions))!r}, which is not '
                'among its images'
            )
        return images


@DATASETS.register_module()
class CaptionFileMatchingDataset(BaseMatchingDataset):
    """Load a folder of custom images with a file of captions.

    The file is one of these. Images are ordered by their first line.

    - text with an image, a tab and a caption per line (``dog.jpg<TAB>A dog runs.``; the name may be
      followed by ``#0`` as in Flickr30K's ``results_20130124.token``);
    - a table with a header: Kaggle's Flickr8k (``image,caption``) and Flickr30k (``image_name|
      comment_number| comment``), open_clip's pairs (``filepath<TAB>title``), or any other columns
      named in :data:`~projects.common.files.tables.IMAGE_COLUMNS` and :data:`CAPTION_COLUMNS`,
      separated by commas, semicolons, tabs or bars;
    - ``.jsonl`` with ``{"image": "dog.jpg", "caption": "A dog runs."}``, where ``caption`` may be a
      list.
    """

    def load_images(self) -> list[dict]:
        """List the images, ordered by their first line."""
        captions: dict[str, list[str]] = {}
        for where, name, texts in self._entries():
            own = captions.setdefault(name, [])
            for text in texts:
                own += self._caption(text, where)
        return [
            dict(captions=texts, ori_id=name, img_path=os.path.join(self.data_prefix['img'], name))
            for name, texts in captions.items()
        ]

    def _entries(self) -> Iterator[tuple[str, str, list[Any]]]:
        """Yield place, image and captions of each entry."""
        lines = read_lines(self.ann_file)
        read = self._read_jsonl if self.ann_file.endswith('.jsonl') else self._read_tabs
        header = next((line for line in lines if line.strip()), '')
        separator = find_separator(header, CAPTION_COLUMNS)
        if separator and read == self._read_tabs:
            yield from self._table(separator)
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f'{self.ann_file}:{number}'
                yield where, *read(line, where)

    def _table(self, separator: str) -> Iterator[tuple[str, str, list[Any]]]:
        (place, header), *rows = read_rows(self.ann_file, separator)
        image, caption = (find_column(header, names) for names in (IMAGE_COLUMNS, CAPTION_COLUMNS))
        if image is None or caption is None:
            raise InputError(f'{place}: columns {", ".join(map(shown, header))}, expected {_TABLE}')
        for where, cells in rows:
            if len(cells) > len(header):
                raise InputError(
                    f'{where}: {len(cells)} cells, expected the {len(header)} of the header; a '
                    f'caption that holds {separator!r} has to be in quotes'
                )
            cells += [''] * (len(header) - len(cells))
            name = cells[image].strip()
            if not name:
                raise InputError(f'{where}: {header[image]}: found nothing, expected an image')
            yield where, name, [cells[caption]]

    def _read_tabs(self, line: str, where: str) -> tuple[str, list[Any]]:
        name, tab, text = line.partition('\t')
        if not tab or not name.strip():
            raise InputError(f'{where}: {shown(line)}, expected image<TAB>caption or {_TABLE}')
        return re.sub(r'#\d+$', '', name.strip()), [text]

    def _read_jsonl(self, line: str, where: str) -> tuple[str, list[Any]]:
        entry = parse_json(line, where, '{"image": ..., "caption": ...} on one line')
        check_fields(entry, where, image=str, caption=(str, list))
        texts = entry['caption'] if isinstance(entry['caption'], list) else [entry['caption']]
        return entry['image'], texts


def _read_json(path: str, *keys: str) -> dict[str, list]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in keys):
        raise InputError(f'{path}: expected json with lists {" and ".join(map(repr, keys))}')
    return content
