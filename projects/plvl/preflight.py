"""Synthetic sentences about random boxes for ``tools/preflight.py``."""

from __future__ import annotations

import json

from projects.common.files.image_reader import image_size
from projects.common.preflight import MadeUp, makes_up

from .datasets.dataset import GroundingDataset
from .datasets.mixed import MixedGroundingDataset


@makes_up(GroundingDataset, MixedGroundingDataset)
def sentences(dataset: dict, made: MadeUp) -> dict:
    """Give every sample a sentence of random words, a random box, and the box as its mask."""
    inner = dataset
    while 'pipeline' not in inner and inner.get('datasets'):
        inner = inner['datasets'][0]
    path = made.path('sentences.jsonl')
    with path.open('w', encoding='utf-8') as file:
        for i in range(made.count):
            image = made.image(i)
            width, height = image_size(image)
            x1, y1, x2, y2 = made.boxes(width, height, 1)[0].tolist()
            line = dict(
                image=str(image),
                sentence=made.sentence(),
                bbox=[x1, y1, x2, y2],
                mask=[[x1, y1, x2, y1, x2, y2, x1, y2]],
                width=width,
                height=height,
            )
            file.write(json.dumps(line) + '\n')
    return dict(
        type='JSONLinesGroundingDataset',
        ann_file=str(path),
        pipeline=inner.get('pipeline') or [],
        test_mode=dataset.get('test_mode', False),
    )
