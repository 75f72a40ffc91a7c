"""PDSL: proposals, cues, inference and training by number of boxes and image size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path

import benchmark_pdsl as one
import cv2
import mmcv
import numpy as np
import torch
from mmengine.registry import init_default_scope
from torch import nn

from projects.pdsl.cues import CachedCue, GrabCutCue
from projects.pdsl.proposals import selective_search

from .pictures import photographs
from .stages import Stage, staged
from .table import Row
from .work import Settings, Step, beside, config_of, plain_products

FULL = 'pdsl/pdsl_r18_4xb1-100k_voc12'
TINY = 'pdsl/pdsl_tiny_1xb4-600_scenes'
PUBLISHED = "the released code's way: box after box"
PRODUCTS = "PyTorch's products"


def steps(settings: Settings) -> Iterator[Step]:
    """Yield all steps of PDSL."""
    make = partial(Step, 'pdsl')
    for side in settings.sizes((320, 480, 640), (64,)):
        yield make('proposals', 'longer side', side, partial(proposals, side, settings),
                   against="OpenCV's quality mode")  # fmt: skip
    for count in settings.sizes((3, 10, 30), (2,)):
        for kind in ('exact', 'cached'):
            yield make(f'{kind} cues', 'masks', count, partial(cues, kind, count, settings),
                       against=PUBLISHED)  # fmt: skip
    for count in settings.sizes((500, 1000, 2000), (30,)):
        yield make('inference', 'proposals', count,
                   partial(inference, 'inference', 64 if settings.quick else 688, count, settings),
                   against=PRODUCTS)  # fmt: skip
    for side in settings.sizes((480, 688, 1152), (64,)):
        yield make('inference by size', 'short side', side,
                   partial(inference, 'inference by size', side, 30 if settings.quick else 500,
                           settings), against=PRODUCTS)  # fmt: skip
    for count in settings.sizes((500, 1000, 2000), (30,)):
        yield make('training step', 'proposals', count, partial(training, count, settings),
                   against=PRODUCTS)  # fmt: skip
    for count in settings.sizes((500, 2000), (30,)):
        yield make('training step in chunks of 256', 'proposals', count,
                   partial(chunks, count, settings), against='all RoIs at once')  # fmt: skip


def picture(side: int) -> np.ndarray:
    image = mmcv.imread(str(photographs()[0]))
    return mmcv.imrescale(image, (side, side))


def proposals(side: int, settings: Settings) -> Row:
    image = picture(side)
    return beside(
        lambda: selective_search(image, max_proposals=None),
        lambda: selective_search(image, quality=True, max_proposals=None),
        settings,
    )


@lru_cache(maxsize=1)
def views(quick: bool) -> list[tuple[np.ndarray, np.ndarray, dict]]:
    """Return two augmented views of a photograph with the seeds of three classes."""
    np.random.seed(0)
    return list(one.training_views(str(photographs()[0]), 2, 10, 100 if quick else 2000))


def cues(kind: str, count: int, settings: Settings) -> list[Row]:
    """Measure one training iteration's pseudo masks; cached ones also by bytes per mask."""
    (first, seeds, meta), (image, others, other_meta) = views(settings.quick)
    published = partial(one.published_cue, image, others[:count])
    exact = GrabCutCue(num_threads=settings.threads)
    if kind == 'exact':
        return [beside(partial(exact, image, others[:count]), published, settings)]
    with tempfile.TemporaryDirectory() as folder:
        cue = CachedCue(exact, folder)
        cue(first, seeds[:count], meta)  # warm: the cache has seen another view of the image
        ours = partial(cue, image, others[:count], other_meta)
        found = beside(ours, published, settings)
        files = list(Path(folder).rglob('*.npz'))
        size = sum(path.stat().st_size for path in files) / count
    height, width = meta['ori_shape']
    bits = dict(ours=size, baseline=height * width / 8, unit='bytes', repeats=1)
    return [dict(bits, what='cached cues: bytes of a mask', against='a bit a pixel'), found]


@lru_cache(maxsize=1)
def model_of(quick: bool, device: str) -> nn.Module:
    cfg = config_of(TINY if quick else FULL)
    init_default_scope('mmdet')
    return one.build_model(cfg, device).eval()


@lru_cache(maxsize=1)
def boxes_of(path: str) -> np.ndarray:
    return one.propose(mmcv.imread(path), 2000)


@torch.inference_mode()
def inference(what: str, side: int, count: int, settings: Settings) -> list[Row]:
    """Measure everything but the proposals, which have their own row."""
    model = model_of(settings.quick, settings.device)
    path = str(photographs()[0])
    boxes = boxes_of(path)[:count]

    def run(context, stage: Stage) -> None:
        with context():
            one.infer(model, path, side, count, stage, boxes)

    return staged(what, partial(run, nullcontext), partial(run, plain_products), settings)


@lru_cache(maxsize=1)
def training_of(quick: bool, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    init_default_scope('mmdet')
    return one.build_for_training(config_of(TINY if quick else FULL), device)


def training(count: int, settings: Settings) -> list[Row]:
    """Measure the network alone, without the cues, which have their own rows."""
    run = partial(step, count, settings)

    def plain(stage: Stage) -> None:
        with plain_products():
            run(stage)

    return staged('training step', run, plain, settings)


def chunks(count: int, settings: Settings) -> Row:
    """Measure pooling the features of few RoIs at a time, which trades time for memory."""
    run = partial(step, count, settings, lambda name, function, *inputs: function(*inputs))
    return beside(partial(run, chunk=256 if count > 256 else 10), run, settings)


def step(count: int, settings: Settings, stage: Stage, chunk: int = 0) -> None:
    model, optimizer = training_of(settings.quick, settings.device)
    batch = data_of(count, settings.quick, settings.device)
    model.roi_head.chunk_size = chunk
    # Dropout affects the number of foreground proposals, each of which has a mask.
    torch.manual_seed(0)

    def forward():
        return sum(model(**batch, mode='loss').values())

    stage('backward', stage('forward', forward).backward)
    stage('update of the weights', optimizer.step)
    optimizer.zero_grad()


@lru_cache(maxsize=1)
def data_of(count: int, quick: bool, device: str) -> dict:
    model = training_of(quick, device)[0]
    return one.training_data(model, (64, 48) if quick else (800, 608), count, device)


cv2.setNumThreads(1)  # GrabCutCue has its own threads
