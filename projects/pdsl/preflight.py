"""Synthetic tags, proposals and instances for tools/preflight.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, VOCDataset

from projects.common.files.image_reader import image_size
from projects.common.preflight import MadeUp, makes_up, write_instances

from .datasets.base_tag_dataset import BaseTagDataset
from .proposals.store import write_store

_PROPOSALS = 2000  # used if the pipeline loads all available proposals


@makes_up(BaseTagDataset)
def tags(dataset: dict, made: MadeUp) -> dict:
    """Give each image one or two random tags, and random proposals."""
    classes = made.classes(dataset)
    count = min(made.count, len(made.images))
    content = {
        str(made.image(i)): made.rng.choice(
            classes, min(1 + int(made.rng.integers(2)), len(classes)), replace=False
        ).tolist()
        for i in range(count)
    }
    path = made.path('tags.json')
    path.write_text(json.dumps(content))
    return dict(
        type='TagFileDataset',
        ann_file=str(path),
        metainfo=dict(classes=classes),
        pipeline=_with_proposals(dataset.get('pipeline') or [], made, count),
    )


@makes_up(VOCDataset, CocoDataset)
def instances(dataset: dict, made: MadeUp) -> dict:
    """Give images random boxes and masks, and random proposals if the pipeline loads any."""
    path, classes = write_instances(dataset, made)
    return dict(
        type='mmdet.CocoDataset',
        ann_file=str(path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=classes, dataset_type='VOC2012'),
        pipeline=_with_proposals(dataset.get('pipeline') or [], made, made.count),
        test_mode=dataset.get('test_mode', False),
    )


def _with_proposals(pipeline: list, made: MadeUp, count: int) -> list:
    """Make the pipeline read random proposals of the first images from a store in the folder."""
    loading = [t for t in pipeline if t.get('type') == 'LoadStoredProposals']
    if not loading:
        return pipeline
    number = loading[0].get('max_proposals') or _PROPOSALS
    folder = made.path('proposals')
    folder.mkdir()

    def proposals(path: Path) -> tuple[str, Any, Any]:
        width, height = image_size(path)
        scores = made.rng.random(number)
        return str(path), made.boxes(width, height, number), scores

    paths = dict.fromkeys(made.image(i) for i in range(count))
    write_store(folder, map(proposals, paths))
    return [_from(folder, transform) for transform in pipeline]


def _from(folder: Path, transform: Mapping) -> dict:
    if transform.get('type') != 'LoadStoredProposals':
        return dict(transform)
    return {**transform, 'folder': str(folder), 'missing': 'empty'}
