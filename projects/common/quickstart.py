"""What the projects' quick starts share: config, pictures, summary file and printed table."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config

__all__ = [
    'load_quietly',
    'predict_one',
    'print_results',
    'save_pictures',
    'versions',
    'write_summary',
]

_PACKAGES = (
    'torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmpretrain',
    'transformers', 'numpy',
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {'python': platform.python_version()}
    for name in _PACKAGES:
        for candidate in (name, name.removeprefix('onedl-').replace('mmdetection', 'mmdet')):
            try:
                found[candidate] = importlib.metadata.version(candidate)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def write_summary(path: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the summary as JSON, with two digits behind the point, and returns it so."""
    rounded = json.loads(json.dumps(summary), parse_float=lambda text: round(float(text), 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded, indent=2) + '\n')
    return rounded


def load_quietly(config: str, seed: int) -> Config:
    """The config with its seed; the progress bar tells enough, the losses are in vis_data."""
    cfg = Config.fromfile(config)
    cfg.randomness.seed = seed
    cfg.log_level = 'WARNING'
    return cfg


def predict_one(runner: Any, index: int) -> tuple[dict, Any, np.ndarray]:
    """A sample of the test set.

    Args:
        runner: Whose model, in evaluation mode, predicts.
        index: The sample's.

    Returns:
        The sample as the data set packs it, the data sample with predictions in the original
        picture's pixels, and that picture (H, W, 3) uint8, RGB.
    """
    packed = runner.test_dataloader.dataset[index]
    batch = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    sample = runner.model.test_step(batch)[0]
    return packed, sample, mmcv.imread(sample.img_path, channel_order='rgb')


def save_pictures(
    folder: Path, pictures: Mapping[str, np.ndarray], overview: np.ndarray
) -> list[Path]:
    """Writes PNGs in place of those of an earlier run.

    Args:
        folder: Where to; it is made.
        pictures: (h, w, 3) uint8, RGB, by the name of the file.
        overview: The same, written as ``overview``.

    Returns:
        The files, the overview last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('*.png'):
        old.unlink()
    paths = []
    for name, picture in {**pictures, 'overview': overview}.items():
        paths.append(folder / f'{name}.png')
        mmcv.imwrite(picture[..., ::-1], str(paths[-1]))
    return paths


def print_results(
    title: str, rows: Sequence[tuple[str, float]], summary: Mapping[str, Any], *notes: str
) -> None:
    """Prints percentages by name between two rules; below, notes, seconds and seed."""
    width = max(len(name) for name, _ in rows)
    print(f'\n{title}')
    print('-' * (width + 10))
    for name, value in rows:
        print(f'{name:<{width}}  {value:6.2f} %')
    print('-' * (width + 10))
    for note in notes:
        print(note)
    print(
        f'training {summary["train_seconds"]:.0f} s, testing {summary["test_seconds"]:.0f} s, '
        f'seed {summary["seed"]}'
    )
