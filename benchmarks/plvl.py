"""PLVL: prediction by image size, batch size and number of sentences; stages; training; data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from projects.common.cli.config import load_config
from projects.common.speed.precision import lower_precision
from projects.plvl.models.language_guided_block import RelativePositionAttention
from projects.plvl.models.relative_position import relative_position_bias, relative_position_table
from tools.analysis_tools.get_flops import example_samples

from . import measure
from .measure import ROOT, Row, Settings, Stage, Step

FULL = 'plvl/plvl_vit-b_4xb20-150e_refcoco'
TINY = 'plvl/plvl_tiny_1xb16-3k_scenes'
SENTENCE = 'the man in the red shirt to the left of the dog'
PLAIN = "plain attention and PyTorch's products in float32"
DTYPES = ('float32', 'bfloat16')


def steps(settings: Settings) -> Iterator[Step]:
    """Yield all steps of PLVL."""
    make = partial(Step, 'plvl', against=PLAIN)
    side = 64 if settings.quick else 448
    for dtype in DTYPES:
        for size in settings.sizes((224, 448, 672), (64,)):
            run = partial(prediction, 1, size, dtype, settings)
            yield make('prediction', 'image side', size, run, dtype=dtype)
    for count in settings.sizes((1, 2, 4), (2,)):
        yield make('batch', 'images', count, partial(prediction, count, side, 'float32', settings))
    for count in settings.sizes((1, 4, 16), (2,)):
        run = partial(sentences, count, side, settings)
        yield make('sentences of one image', 'sentences', count, run, against='one by one')
    yield make('stages', 'image side', side, partial(stages, side, settings))
    for dtype in DTYPES:
        run = partial(training, 2, side, dtype, settings)
        yield make('training step', 'images', 2, run, dtype=dtype)
    yield make('data', 'image side', side, partial(data, side, settings),
               against='decode and resize with Pillow', threads=1)  # fmt: skip


def build_model(quick: bool, device: str) -> nn.Module:
    """Build the model in evaluation mode, with a vocabulary."""
    model = measure.build(TINY if quick else FULL, device)
    example_samples(model, 32, 32)  # learns a small vocabulary
    return model.eval()


@lru_cache(maxsize=1)
def model_of(quick: bool, device: str, dtype: str = 'float32') -> tuple[nn.Module, Callable]:
    """Return the model and the context to call it in."""
    model = build_model(quick, device)
    return lower_precision(model) if dtype == 'bfloat16' else (model, contextlib.nullcontext)


def make_inputs(
    model: nn.Module, images: int, size: int, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalized images (B, 3, size, size), token ids (B, L) and their mask (B, L)."""
    noise = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids, mask = model.text_encoder.tokenize([SENTENCE] * images)
    return noise.to(device), ids.to(device), mask.to(device)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Compute logits, bias and softmax as separate operations, in every call."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        tables = (
            relative_position_table(self.rel_pos_h, height).to(q.dtype),
            relative_position_table(self.rel_pos_w, width).to(q.dtype),
        )
        logits = logits + relative_position_bias(q, *tables)
        x = logits.softmax(-1) @ v
        return self.proj(x.transpose(1, 2).flatten(2).unflatten(1, (height, width)))

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        patch = mock.patch.object(RelativePositionAttention, 'forward', forward)
        with patch, sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def plain(run: Callable) -> Callable:
    """Return the run with plain attention and PyTorch's products."""
    return plain_attention()(measure.plain_products()(run))


@torch.inference_mode()
def prediction(images: int, size: int, dtype: str, settings: Settings) -> Row:
    model, context = model_of(settings.quick, settings.device, dtype)
    reference = model  # in float32
    if dtype != 'float32':
        reference = build_model(settings.quick, settings.device)
    inputs = make_inputs(model, images, size, settings.device)

    def ours() -> None:
        with context():
            model.head.predict(model.extract_feat(*inputs))

    def baseline() -> None:
        reference.head.predict(reference.extract_feat(*inputs))

    return measure.compare(ours, plain(baseline), settings, counted=True)


@torch.inference_mode()
def sentences(count: int, size: int, settings: Settings) -> Row:
    model, _ = model_of(settings.quick, settings.device)
    images, ids, mask = make_inputs(model, count, size, settings.device)
    repeats = torch.tensor([count], device=settings.device)

    def at_once() -> None:
        model.head.predict(model.extract_feat(images[:1], ids, mask, repeats))

    def one_by_one() -> None:
        for i in range(count):
            model.head.predict(model.extract_feat(images[:1], ids[i : i + 1], mask[i : i + 1]))

    return measure.compare(at_once, one_by_one, settings, counted=True)


@torch.inference_mode()
def stages(size: int, settings: Settings) -> list[Row]:
    model, _ = model_of(settings.quick, settings.device)
    images, ids, mask = make_inputs(model, 1, size, settings.device)

    def run(stage: Stage) -> None:
        text = stage('text encoder', model.text_encoder, ids, mask)
        visual = stage('backbone', model.backbone, images, text, mask)
        features = stage('fusion decoder', model.decoder, visual, text, mask)
        stage('head', model.head.predict, features)

    return measure.compare_stages(run, plain(run), settings)


def loss_of(
    model: nn.Module, images: int, size: int, device: str, dtype: str = 'float32'
) -> Callable[[], Tensor]:
    """Return a function that computes the loss of a batch with one box and mask per image."""
    inputs = make_inputs(model, images, size, device)
    boxes = torch.tensor([[0.2, 0.3, 0.6, 0.8]], device=device).expand(images, 4)
    masks = torch.zeros(images, size, size, dtype=torch.uint8, device=device)
    masks[:, size // 3 : size // 2, size // 3 : size // 2] = 1

    def loss() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == 'bfloat16'):
            return sum(model.head.loss(model.extract_feat(*inputs), boxes, masks).values())

    return loss


def training(images: int, size: int, dtype: str, settings: Settings) -> list[Row]:
    model = build_model(settings.quick, settings.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    loss = partial(loss_of, model, images, size, settings.device)
    ours, baseline = (partial(measure.training_step, f, optimizer) for f in (loss(dtype), loss()))
    return measure.compare_stages(ours, plain(baseline), settings)


def data(size: int, settings: Settings) -> Row:
    """Measure one process loading a training sample of a photograph, from file to tensor."""
    init_default_scope('mmdet')
    cfg = load_config(ROOT / f'configs/{FULL}.py')
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    polygon = [100.0, 80.0, 400.0, 80.0, 400.0, 300.0, 100.0, 300.0]
    instance = dict(bbox=[100.0, 80.0, 400.0, 300.0], bbox_label=0, ignore_flag=0, mask=[polygon])

    def load(path: Path) -> None:
        pipeline(dict(img_path=str(path), text='the red flower', instances=[dict(instance)]))

    def decode(path: Path) -> None:
        image = Image.open(path).convert('RGB').resize((size, size))
        torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).contiguous()

    paths = measure.photographs()

    def each(function: Callable[[Path], None]) -> Callable[[], object]:
        return lambda: list(map(function, paths))

    row = measure.compare(each(load), each(decode), settings, 2 if settings.quick else 15)
    return dict(row, **{name: row[name] / len(paths) for name in ('ours', 'baseline')})
