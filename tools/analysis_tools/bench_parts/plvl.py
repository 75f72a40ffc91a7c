"""PLVL: prediction by image size, batch size and sentences per image; stages and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path

import benchmark_plvl as one
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from projects.common.speed.precision import lower_precision

from .pictures import photographs
from .stages import Stage, staged
from .table import Row
from .work import Settings, Step, beside, config_of, plain_products, work

FULL = 'plvl/plvl_vit-b_4xb20-150e_refcoco'
TINY = 'plvl/plvl_tiny_1xb16-3k_scenes'
PLAIN = "plain attention and PyTorch's products in float32"
DTYPES = ('float32', 'bfloat16')


def steps(settings: Settings) -> Iterator[Step]:
    """Yield all steps of PLVL."""
    make = partial(Step, 'plvl')
    side = 64 if settings.quick else 448
    for dtype in DTYPES:
        for size in settings.sizes((224, 448, 672), (64,)):
            yield make('prediction', 'image side', size,
                       partial(prediction, 1, size, dtype, settings),
                       against=PLAIN, dtype=dtype)  # fmt: skip
    for count in settings.sizes((1, 2, 4), (2,)):
        yield make('batch', 'images', count, partial(prediction, count, side, 'float32', settings),
                   against=PLAIN)  # fmt: skip
    for count in settings.sizes((1, 4, 16), (2,)):
        yield make('sentences of one image', 'sentences', count,
                   partial(sentences, count, side, settings), against='one by one')  # fmt: skip
    yield make('stages', 'image side', side, partial(stages, side, settings), against=PLAIN)
    for dtype in DTYPES:
        yield make('training step', 'images', 2, partial(training, 2, side, dtype, settings),
                   against=PLAIN, dtype=dtype)  # fmt: skip
    yield make('data', 'image side', side, partial(data, side, settings),
               against='decode and resize by Pillow', threads=1)  # fmt: skip


@lru_cache(maxsize=1)
def model_of(quick: bool, device: str, dtype: str = 'float32') -> tuple[nn.Module, Callable]:
    """Return the model and the context to call it in."""
    model = one.build_model(config_of(TINY if quick else FULL), device)
    return lower_precision(model) if dtype == 'bfloat16' else (model, nullcontext)


def plain(run: Callable) -> None:
    with one.plain_attention(), plain_products():
        run()


@torch.inference_mode()
def prediction(images: int, size: int, dtype: str, settings: Settings) -> Row:
    model, context = model_of(settings.quick, settings.device, dtype)
    reference = model
    if dtype != 'float32':  # the baseline is in float32
        cfg = config_of(TINY if settings.quick else FULL)
        reference = one.build_model(cfg, settings.device)
    inputs = one.make_inputs(model, images, size, settings.device)

    def ours() -> None:
        with context():
            model.head.predict(model.extract_feat(*inputs))

    def baseline() -> None:
        plain(lambda: reference.head.predict(reference.extract_feat(*inputs)))

    return {**beside(ours, baseline, settings), **work(ours)}


@torch.inference_mode()
def sentences(count: int, size: int, settings: Settings) -> Row:
    model, _ = model_of(settings.quick, settings.device)
    images, ids, mask = one.make_inputs(model, count, size, settings.device)
    repeats = torch.tensor([count], device=settings.device)

    def at_once() -> None:
        model.head.predict(model.extract_feat(images[:1], ids, mask, repeats))

    def one_by_one() -> None:
        for i in range(count):
            model.head.predict(model.extract_feat(images[:1], ids[i : i + 1], mask[i : i + 1]))

    return {**beside(at_once, one_by_one, settings), **work(at_once)}


@torch.inference_mode()
def stages(size: int, settings: Settings) -> list[Row]:
    model, _ = model_of(settings.quick, settings.device)
    images, ids, mask = one.make_inputs(model, 1, size, settings.device)

    def run(stage: Stage) -> None:
        text = stage('text encoder', model.text_encoder, ids, mask)
        visual = stage('backbone', model.backbone, images, text, mask)
        features = stage('fusion decoder', model.decoder, visual, text, mask)
        stage('head', model.head.predict, features)

    return staged('stages', run, lambda stage: plain(lambda: run(stage)), settings)


def training(images: int, size: int, dtype: str, settings: Settings) -> list[Row]:
    cfg = config_of(TINY if settings.quick else FULL)
    model = one.build_model(cfg, settings.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    inputs = one.make_inputs(model, images, size, settings.device)
    targets = one.make_targets(images, size, settings.device)

    def run(stage: Stage, half: bool) -> None:
        def forward():
            with torch.autocast(settings.device, torch.bfloat16, enabled=half):
                return sum(model.head.loss(model.extract_feat(*inputs), *targets).values())

        stage('backward', stage('forward', forward).backward)
        stage('update of the weights', optimizer.step)
        optimizer.zero_grad()

    return staged(
        'training step',
        lambda stage: run(stage, dtype == 'bfloat16'),
        lambda stage: plain(lambda: run(stage, False)),
        settings,
    )


def data(size: int, settings: Settings) -> Row:
    """Measure one process loading a training sample of a photograph, from file to tensor."""
    init_default_scope('mmdet')
    cfg = config_of(FULL)
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    paths = photographs()
    instance = dict(
        bbox=[100.0, 80.0, 400.0, 300.0],
        bbox_label=0,
        ignore_flag=0,
        mask=[[100.0, 80.0, 400.0, 80.0, 400.0, 300.0, 100.0, 300.0]],
    )

    def sample(path: Path) -> dict:
        return dict(img_path=str(path), text='the red flower', instances=[dict(instance)])

    def ours() -> None:
        for path in paths:
            pipeline(sample(path))

    def baseline() -> None:
        for path in paths:
            picture = Image.open(path).convert('RGB').resize((size, size))
            torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).contiguous()

    found = beside(ours, baseline, settings, rounds=2 if settings.quick else 15)
    for name in ('ours', 'baseline'):
        found[name] /= len(paths)
    return found
