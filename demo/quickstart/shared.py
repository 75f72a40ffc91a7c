"""Shared parts of the quick starts: config, images, output, summary file and printed table."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from pycocotools import coco, cocoeval
from tqdm import tqdm

from projects.common.files.image_reader import read_image
from projects.common.visualization import tile

__all__ = [
    'ValidationImageHook',
    'all_samples',
    'draw_kinds',
    'library_output_to',
    'load_quietly',
    'predict_one',
    'print_results',
    'save_images',
    'versions',
    'write_summary',
]

_PACKAGES = (
    'torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmpretrain',
    'transformers', 'numpy',
)  # fmt: skip


@contextlib.contextmanager
def library_output_to(log: Path) -> Iterator[None]:
    """Append to a log file what pycocotools and MMEngine's configs print on the terminal."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a', encoding='utf-8') as file, contextlib.ExitStack() as stack:
        for module in (coco, cocoeval):
            into_file = functools.partial(print, file=file)
            stack.enter_context(mock.patch.object(module, 'print', into_file, create=True))
        for handler in MMLogger.get_current_instance().handlers:
            if isinstance(handler, logging.StreamHandler):
                stack.callback(handler.setStream, handler.setStream(file))
        yield


class ValidationImageHook(Hook):
    """Save what the model finds at each validation as one image, and print its path.

    The image consists of the drawings that the config's visualization hook has just written to the
    folder of the log.
    """

    priority = 'LOWEST'  # after the drawings

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Save ``<work_dir>/validation/iteration_<number>.png``."""
        drawn = Path(runner.log_dir, 'vis_data', 'vis_image').glob(f'val_*_{runner.iter}.png')
        images = [read_image(path, channel_order='rgb') for path in sorted(drawn)]
        if not images:
            return
        path = Path(runner.work_dir, 'validation', f'iteration_{runner.iter}.png')
        mmcv.imwrite(tile(images)[..., ::-1], str(path))
        with tqdm.external_write_mode():  # above the progress bar
            print(f'     found after {runner.iter} iterations: {path}', flush=True)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
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
    """Write the summary as JSON, rounded to two decimals, and return it in this form."""
    rounded = json.loads(json.dumps(summary), parse_float=lambda text: round(float(text), 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded, indent=2) + '\n')
    return rounded


def load_quietly(config: str, seed: int) -> Config:
    """Load a config with a seed and without loss logs.

    The progress bar shows enough, and the losses are in vis_data.
    """
    cfg = Config.fromfile(config)
    cfg.randomness.seed = seed
    cfg.log_level = 'WARNING'
    return cfg


def predict_one(runner: Any, index: int) -> tuple[Any, np.ndarray]:
    """Predict one sample of the test set.

    Args:
        runner: A runner whose model is in evaluation mode.
        index: Index of the sample.

    Returns:
        The data sample with predictions in pixels of the original image, and this image (H, W, 3)
        uint8, RGB.
    """
    packed = runner.test_dataloader.dataset[index]
    batch = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    sample = runner.model.test_step(batch)[0]
    return sample, read_image(sample.img_path, channel_order='rgb')


def save_images(folder: Path, images: Mapping[str, np.ndarray], overview: np.ndarray) -> list[Path]:
    """Write images as PNG files, replacing those of an earlier run.

    Args:
        folder: Output folder, which is created if necessary.
        images: Images (h, w, 3) uint8, RGB, by file name.
        overview: An image of the same kind, written as ``overview``.

    Returns:
        The paths of the files, with the overview last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('*.png'):
        old.unlink()
    paths = []
    for name, image in {**images, 'overview': overview}.items():
        paths.append(folder / f'{name}.png')
        mmcv.imwrite(image[..., ::-1], str(paths[-1]))
    return paths


def all_samples(runner: Any) -> list[dict]:
    """Return the annotations of all samples of the test set."""
    dataset = runner.test_dataloader.dataset
    return [dataset.get_data_info(i) for i in range(len(dataset))]


@torch.no_grad()
def draw_kinds(
    runner: Any, samples: Sequence[dict], kinds: Sequence[str], count: int, folder: Path
) -> list[Path]:
    """Draw the first samples of every kind of sentence, and a sheet with one of each kind.

    Args:
        runner: The runner, whose model is put in evaluation mode.
        samples: The annotations of the test set; an image is drawn once.
        kinds: Kinds in the order of the sheet.
        count: Number of drawings of a kind.
        folder: Output folder.

    Returns:
        The paths of the files, with the sheet last.
    """
    chosen: dict[str, list[int]] = {kind: [] for kind in kinds}
    seen = set()
    for i, sample in enumerate(samples):
        of_kind = chosen[sample['kind']]
        if len(of_kind) < count and sample['img_path'] not in seen:
            of_kind.append(i)
            seen.add(sample['img_path'])
    runner.model.eval()
    pictures: dict[str, np.ndarray] = {}
    sheet = []
    for kind, indices in chosen.items():
        for i in indices:
            sample, image = predict_one(runner, i)
            name = f'{kind}_{len(pictures):02d}_{Path(sample.img_path).stem}'
            pictures[name] = runner.visualizer.draw(image, sample)
            if i == indices[0]:
                sheet.append(pictures[name])
    return save_images(folder, pictures, tile(sheet))


def print_results(
    title: str, rows: Sequence[tuple[str, float]], summary: Mapping[str, Any], *notes: str
) -> None:
    """Print named percentages between two rules, followed by notes, duration and seed."""
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
