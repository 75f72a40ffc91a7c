"""Synthetic captions for images and random regions, used by tools/preflight.py."""

from __future__ import annotations

import json
import os

import numpy as np
from mmengine.config import Config

from projects.common.preflight import MadeUp, makes_up, prepares
from projects.common.preflight.findings import Findings

from .datasets.base import BaseMatchingDataset
from .datasets.precomp import PrecompMatchingDataset, write_precomputed

_EACH = 5  # captions per image
_REGIONS, _CHANNELS = 36, 2048  # as in the released features


@prepares
def mining(cfg: Config, findings: Findings) -> None:
    """Let the model being trained mine its own offline negatives if the miner is missing."""
    for hook in cfg.get('custom_hooks') or []:
        if not str(hook['type']).endswith('OfflineMiningHook'):
            continue
        hook.top_captions, hook.top_images = 10, 2  # synthetic data sets are small
        files = [
            name for value in (hook.get('miner') or {}).values() for name in np.atleast_1d(value)
        ]
        absent = [name for name in files if str(name).endswith(('.pth', '.npy'))]
        absent = [name for name in absent if not os.path.isfile(name)]
        if absent:
            hook.miner = None
            findings.note(f'{absent[0]} is not at hand: the model itself mines offline negatives')


@makes_up(PrecompMatchingDataset)
def regions(dataset: dict, made: MadeUp) -> dict:
    """Generate non-negative regions, like a ResNet's, and captions of random words."""
    count = max(-(-made.count // _EACH), 2)
    folder = made.path('precomp')
    folder.mkdir()
    features = (
        np.maximum(made.rng.standard_normal((_REGIONS, _CHANNELS), dtype=np.float32), 0)
        for _ in range(count)
    )
    images = [
        dict(text=[made.sentence() for _ in range(_EACH)], ori_id=str(i)) for i in range(count)
    ]
    write_precomputed(folder, 'made_up', features, images)
    kept = {k: v for k, v in dataset.items() if k not in ('ann_file', 'max_images')}
    return {**kept, 'split': 'made_up', 'data_root': str(folder), 'captions_per_image': _EACH}


@makes_up(BaseMatchingDataset)
def captions(dataset: dict, made: MadeUp) -> dict:
    """Generate five captions of random words for every image."""
    count = max(-(-made.count // _EACH), 2)
    path = made.path('captions.jsonl')
    texts: dict[str, list[str]] = {}
    for i in range(count):
        texts.setdefault(str(made.image(i)), []).extend(made.sentence() for _ in range(_EACH))
    lines = (json.dumps(dict(image=image, caption=each)) for image, each in texts.items())
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return dict(
        type='CaptionFileMatchingDataset',
        ann_file=str(path),
        pipeline=dataset.get('pipeline') or [],
        test_mode=dataset.get('test_mode', False),
        all_captions=dataset.get('all_captions', False),
    )
