"""RVSE: similarities and encoders, their training, and galleries by number of images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import lru_cache, partial

import benchmark_rvse as one
import numpy as np
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from projects.common.build import build_quietly
from projects.common.text import WordPieceTokenizer

from .stages import Stage, staged
from .table import Row
from .work import Settings, Step, beside, config_of, plain_products, work

WORDS = [f'w{i}' for i in range(2000)]


def steps(settings: Settings) -> Iterator[Step]:
    """Yield all steps of RVSE."""
    make = partial(Step, 'rvse')
    captions = 10 if settings.quick else 500
    for name in ('VSE',) if settings.quick else ('VSE', 'SCAN t2i', 'BFAN equal', 'SAF'):
        for images in settings.sizes((100, 300, 1000), (8,)):
            if name == 'SAF' and images > 300:
                continue  # takes half a minute per round
            yield make(f'similarity of {name}', 'pictures', images,
                       partial(similarity, name, images, captions, settings),
                       unit='us/pair', against='published loop')  # fmt: skip
    for count in settings.sizes((1, 32, 128), (2,)):
        yield make('encoders', 'pairs', count, partial(encoders, count, settings),
                   against="PyTorch's products")  # fmt: skip
    for count in settings.sizes((32, 128), (2,)):
        yield make('training step', 'pairs', count, partial(training, count, settings),
                   against="PyTorch's products, the loss of hardest negatives")  # fmt: skip
    for count in settings.sizes((10_000, 50_000, 200_000), (500,)):
        yield make('gallery: one query', 'pictures', count,
                   partial(gallery, count, settings), against='NumPy')  # fmt: skip
    for count in settings.sizes((1_000_000,), (2000,)):
        yield make('gallery of codes: one query', 'pictures', count,
                   partial(codes, count, settings),
                   against='exact, in shards of 100,000')  # fmt: skip


@torch.inference_mode()
def similarity(name: str, images: int, captions: int, settings: Settings) -> Row:
    inputs = one.embeddings(name, images, captions, settings.device)
    variants = one.variants_of(name, inputs, loop_captions=max(captions // 10, 5))
    (loop, of_loop), (ours, pairs) = variants['loop'], variants['ours']
    found = {**beside(ours, loop, settings), **work(ours)}
    found['ours'] *= 1e6 / pairs
    found['baseline'] *= 1e6 / of_loop
    # report the work of one pair, like the time
    return dict(found, gflop=found['gflop'] / pairs / 1e-6, gbyte=found['gbyte'] / pairs / 1e-6)


@lru_cache(maxsize=1)
def model_of(quick: bool, device: str) -> nn.Module:
    """Build RVSE++ with a randomly initialised BERT-base."""
    cfg = config_of('rvse/rvsepp_selhn_1xb128-30e_coco')
    if quick:
        cfg.model.text_encoder.encoder.bert = dict(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
        )
    torch.manual_seed(0)
    with torch.inference_mode(False):  # the model is also trained
        model = build_quietly(cfg.model, 'mmpretrain').to(device)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn([' '.join(WORDS)], 3000, True))
    return model


def batch(count: int, device: str) -> tuple[torch.Tensor, list[DataSample]]:
    """Return regions (B, 36, 2048) and captions of 12 words on average."""
    rng = np.random.default_rng(0)
    noise = torch.Generator().manual_seed(0)
    samples = [DataSample() for _ in range(count)]
    for i, sample in enumerate(samples):
        sample.set_field(' '.join(rng.choice(WORDS, rng.integers(5, 20))), 'text')
        sample.set_field(i, 'image_id', field_type='metainfo')
    return torch.randn(count, one.REGIONS, 2048, generator=noise).to(device), samples


@torch.inference_mode()
def encoders(count: int, settings: Settings) -> list[Row]:
    model = model_of(settings.quick, settings.device).eval()
    inputs, samples = batch(count, settings.device)
    captions = [sample.text for sample in samples]

    def run(stage: Stage) -> None:
        images = stage('pictures', model.encode_images, inputs)
        tokens = stage('tokens', model.text_encoder.tokenize, captions)
        texts = stage('captions', model.text_encoder, *tokens)
        stage('similarity', model.similarity, *images, *texts)

    def plain(stage: Stage) -> None:
        with plain_products():
            run(stage)

    return staged('encoders', run, plain, settings)


def training(count: int, settings: Settings) -> list[Row]:
    model = model_of(settings.quick, settings.device).train()
    inputs, samples = batch(count, settings.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ours = model.criterion
    hardest = MODELS.build(dict(type='HardNegativeLoss', margin=0.2))

    def run(criterion: nn.Module, stage: Stage) -> None:
        model.criterion = criterion

        def forward():
            return model.loss(inputs, samples)['loss']

        stage('backward', stage('forward', forward).backward)
        stage('update of the weights', optimizer.step)
        optimizer.zero_grad()

    def plain(stage: Stage) -> None:
        with plain_products():
            run(hardest, stage)

    try:
        return staged('training step', partial(run, ours), plain, settings)
    finally:
        model.criterion = ours


def gallery(count: int, settings: Settings) -> list[Row]:
    """Measure an exact store: filling, saving, opening, one query and sixteen."""
    from projects.rvse.retrieval import open_store

    rows = one.unit_vectors(count, 1024, 0)
    names = [f'pictures/{i:09}.jpg' for i in range(count)]
    queries = one.unit_vectors(16, 1024, 7)

    def plain(of: int) -> None:
        scores = queries[:of] @ rows.T
        np.argpartition(scores, -10, axis=1)[:, -10:]

    with tempfile.TemporaryDirectory() as folder:
        uri = f'faiss:{folder}/store'
        store = open_store(uri, 'a' * 32)
        made = []
        for what, run, baseline in (
            ('add', lambda: store.add(names, rows), rows.copy),
            ('save', store.save, lambda: np.save(f'{folder}/rows.npy', rows)),
            ('open', lambda: open_store(uri, 'a' * 32), lambda: np.load(f'{folder}/rows.npy')),
        ):
            # run once: adding the same vectors again would replace them
            found = one.time_in_turn({'ours': run, 'baseline': baseline}, 1, warm_up=0)
            made.append(dict(found, what=f'gallery: {what}', repeats=1))
        for of, what in ((16, 'gallery: 16 queries'), (1, 'gallery: one query')):
            found = beside(
                partial(store.search, queries[:of], 10), partial(plain, of), settings,
                rounds=2 if settings.quick else 9,
            )  # fmt: skip
            gflop, gbyte = 2 * of * rows.size / 1e9, rows.nbytes / 1e9
            made.append(dict(found, what=what, gflop=gflop, gbyte=gbyte))
    return made


def codes(count: int, settings: Settings) -> list[Row]:
    """Compare a gallery of product-quantised codes with an exact search over its shards.

    The vectors are generated shard by shard, and an exact search opens one shard at a time: its
    time is the sum over the shards. Queries are vectors of the gallery plus noise of equal
    magnitude (cosine 0.7); a query counts as missed if its vector is not among the ten nearest.
    """
    import faiss

    channels, part = 1024, min(count, 100_000)
    lists, pieces = (16, '8x4') if settings.quick else (1024, '64')
    faiss.omp_set_num_threads(settings.threads)
    index = faiss.index_factory(channels, f'IVF{lists},PQ{pieces}', faiss.METRIC_INNER_PRODUCT)
    seconds = dict(train=0.0, add=0.0, exact=0.0)
    for start in range(0, count, part):
        rows = clustered(part, channels, start)
        if not index.is_trained:
            queries = rows[:64] + one.unit_vectors(64, channels, 7)
            seconds['train'] = seconds_of(partial(index.train, rows[: 40 * lists]))
        seconds['add'] += seconds_of(partial(index.add, rows))
        flat = faiss.IndexFlatIP(channels)
        flat.add(rows)
        search = {'exact': partial(flat.search, queries[:1], 10)}
        seconds['exact'] += one.time_in_turn(search, 3)['exact']
    index.nprobe = max(lists // 32, 1)
    found = beside(
        partial(index.search, queries[:1], 10), None, settings, rounds=2 if settings.quick else 9
    )
    _, numbers = index.search(queries, 10)
    missed = np.mean([own not in row for own, row in enumerate(numbers)])
    size = len(faiss.serialize_index(index))
    made = {
        'train': dict(ours=seconds['train']),
        'add': dict(ours=seconds['add']),
        'bytes a picture': dict(ours=size / count, baseline=4.0 * channels, unit='bytes'),
        'missed of 64 queries': dict(ours=float(missed), unit='share'),
    }
    rows = [
        dict(values, what=f'gallery of codes: {what}', repeats=1) for what, values in made.items()
    ]
    return [*rows, dict(found, baseline=seconds['exact'])]


def clustered(count: int, channels: int, seed: int) -> np.ndarray:
    """Return unit vectors (count, channels), float32, around 5,000 shared centres."""
    centres = np.random.default_rng(0).standard_normal((5000, channels), dtype=np.float32)
    rng = np.random.default_rng(seed + 1)
    rows = centres[rng.integers(0, len(centres), count)]
    rows += rng.standard_normal((count, channels), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def seconds_of(run) -> float:
    return one.time_in_turn({'run': run}, 1, warm_up=0)['run']
