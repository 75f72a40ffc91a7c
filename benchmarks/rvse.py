"""RVSE: similarities and encoders, their training, and galleries by number of images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn

import projects.rvse.register  # noqa: F401
from projects.common.build import build_quietly
from projects.common.cli.config import load_config
from projects.common.cli.run import prepare
from projects.common.text import WordPieceTokenizer
from projects.rvse.datasets import write_regions
from projects.rvse.text import Vocabulary

from . import measure
from . import published_loops as published
from .measure import ROOT, Clock, Row, Run, Settings, Stage, Step

FULL = 'rvse/rvsepp_selhn_1xb128-30e_coco'
REGIONS, CHANNELS = 36, 1024
WORDS = [f'w{i}' for i in range(2000)]
# The config of each similarity and, for the released loop, the function that scores a caption.
SIMILARITIES = {
    'VSE': (dict(type='CosineSimilarity'), None),
    'SCAN t2i': (dict(type='SCANSimilarity', direction='t2i'), published.scan('t2i', 'AVG', 9, 6)),
    'SCAN i2t': (dict(type='SCANSimilarity', direction='i2t'), published.scan('i2t', 'AVG', 4, 5)),
    'BFAN equal': (dict(type='BFANSimilarity', focus='equal'), published.bfan('equal')),
    'BFAN prob': (dict(type='BFANSimilarity', focus='prob'), published.bfan('prob')),
    'SGR': (dict(type='SGRSimilarity'), None),
    'SAF': (dict(type='SAFSimilarity'), None),
}


def steps(settings: Settings) -> Iterator[Step]:
    """Yield all steps of RVSE."""
    make = partial(Step, 'rvse')
    captions = 10 if settings.quick else 500
    for name in ('VSE',) if settings.quick else ('VSE', 'SCAN t2i', 'BFAN equal', 'SAF'):
        for images in settings.sizes((100, 300, 1000), (8,)):
            if name == 'SAF' and images > 300:
                continue  # takes half a minute per round
            yield make(f'similarity of {name}', 'images', images,
                       partial(similarity, name, images, captions, settings),
                       unit='us/pair', against='published loop')  # fmt: skip
    for count in settings.sizes((1, 32, 128), (2,)):
        yield make('encoders', 'pairs', count, partial(encoders, count, settings),
                   against="PyTorch's products")  # fmt: skip
    for count in settings.sizes((32, 128), (2,)):
        yield make('training step', 'pairs', count, partial(training, count, settings),
                   against="PyTorch's products, the loss of hardest negatives")  # fmt: skip
    for count in settings.sizes((10_000, 50_000, 200_000), (500,)):
        yield make('gallery: one query', 'images', count, partial(gallery, count, settings),
                   against='NumPy')  # fmt: skip
    for count in settings.sizes((1_000_000,), (2000,)):
        yield make('gallery of codes: one query', 'images', count,
                   partial(codes, count, settings),
                   against='exact, in shards of 100,000')  # fmt: skip


# ---------------------------------------------------------------------------------- similarities


def similarity_of(name: str) -> nn.Module:
    """Build a similarity with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build_quietly(SIMILARITIES[name][0], 'mmpretrain').eval()


def embeddings(name: str, images: int, captions: int, device: str = 'cpu') -> tuple[Tensor, ...]:
    """Return images (I, 36, C) or, for VSE, (I, C), their lengths (I,), and the same of captions.

    They are unit vectors with a common direction, so that attention is not flat.
    """
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(7, 22, (captions,), generator=generator)  # 14 on average
    common = torch.randn(CHANNELS, generator=generator)
    parts = ((), ()) if name == 'VSE' else ((REGIONS,), (21,))

    def unit(*shape: int) -> Tensor:
        made = torch.randn(*shape, CHANNELS, generator=generator) + common
        return (made / made.norm(dim=-1, keepdim=True)).to(device)

    sizes = torch.full((images,), REGIONS, device=device)
    return unit(images, *parts[0]), sizes, unit(captions, *parts[1]), lengths.to(device)


def published_loop(name: str, model: nn.Module, images: Tensor) -> Callable[..., Tensor]:
    """Return a function of captions and lengths that scores them as the released code does."""
    if name == 'VSE':
        return lambda captions, lengths: torch.mm(images, captions.T)
    score = SIMILARITIES[name][1] or published.sgraf(model, name.lower(), images)
    return partial(published.loop, score, images)


@torch.inference_mode()
def similarity(name: str, images: int, captions: int, settings: Settings) -> Row:
    """Measure the time of a pair; the loop, plain PyTorch, scores only some of the captions."""
    inputs = embeddings(name, images, captions, settings.device)
    model = similarity_of(name).to(settings.device)
    some = captions if name == 'VSE' else max(captions // 10, 5)
    loop = published_loop(name, model, inputs[0])
    baseline = measure.plain_products()(partial(loop, inputs[2][:some], inputs[3][:some]))
    row = measure.compare(lambda: model(*inputs), baseline, settings, counted=True)
    scale = 1e6 / (images * captions)
    row['baseline'] *= captions / some
    return {**row, **{key: row[key] * scale for key in ('ours', 'baseline', 'gflop', 'gbyte')}}


# ---------------------------------------------------------------------------- encoders, training


@lru_cache(maxsize=1)
def model_of(quick: bool, device: str) -> nn.Module:
    """Build RVSE++ with a randomly initialized BERT-base."""

    def change(model: ConfigDict) -> None:
        if quick:
            model.text_encoder.encoder.bert = dict(
                hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
            )

    model = measure.build(FULL, device, change)
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn([' '.join(WORDS)], 3000, True))
    return model


def batch_of(count: int, device: str) -> tuple[Tensor, list[DataSample]]:
    """Return regions (B, 36, 2048) and captions of 12 words on average."""
    rng = np.random.default_rng(0)
    noise = torch.Generator().manual_seed(0)
    samples = [DataSample() for _ in range(count)]
    for i, sample in enumerate(samples):
        sample.set_field(' '.join(rng.choice(WORDS, rng.integers(5, 20))), 'text')
        sample.set_field(i, 'image_id', field_type='metainfo')
    return torch.randn(count, REGIONS, 2048, generator=noise).to(device), samples


@torch.inference_mode()
def encoders(count: int, settings: Settings) -> list[Row]:
    model = model_of(settings.quick, settings.device).eval()
    inputs, samples = batch_of(count, settings.device)
    captions = [sample.text for sample in samples]

    def run(stage: Stage) -> None:
        images = stage('images', model.encode_images, inputs)
        tokens = stage('tokens', model.text_encoder.tokenize, captions)
        texts = stage('captions', model.text_encoder, *tokens)
        stage('similarity', model.similarity, *images, *texts)

    return measure.compare_stages(run, measure.plain_products()(run), settings)


def training(count: int, settings: Settings) -> list[Row]:
    model = model_of(settings.quick, settings.device).train()
    inputs, samples = batch_of(count, settings.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ours = model.criterion

    def with_loss(criterion: nn.Module) -> Run:
        def run(stage: Stage) -> None:
            model.criterion = criterion
            measure.training_step(lambda: model.loss(inputs, samples)['loss'], optimizer, stage)

        return run

    hardest = with_loss(MODELS.build(dict(type='HardNegativeLoss', margin=0.2)))
    try:
        return measure.compare_stages(with_loss(ours), measure.plain_products()(hardest), settings)
    finally:
        model.criterion = ours


# ------------------------------------------------------------------------------------- galleries


def unit_vectors(count: int, seed: int, centers: np.ndarray | None = None) -> np.ndarray:
    """Return unit vectors (count, CHANNELS), float32, around the origin or random centers."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, CHANNELS), dtype=np.float32)
    if centers is not None:
        rows += centers[rng.integers(0, len(centers), count)]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gallery(count: int, settings: Settings) -> list[Row]:
    """Measure an exact store: filling, saving, opening, one query and sixteen."""
    from projects.rvse.retrieval import open_store

    vectors, queries = unit_vectors(count, 0), unit_vectors(16, 7)
    names = [f'images/{i:09}.jpg' for i in range(count)]

    def brute_force(some: np.ndarray) -> None:
        np.argpartition(some @ vectors.T, -10, axis=1)[:, -10:]

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        uri, file = f'faiss:{folder}/store', f'{folder}/vectors.npy'
        store = open_store(uri, 'a' * 32)
        once: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            'add': (lambda: store.add(names, vectors), vectors.copy),
            'save': (store.save, lambda: np.save(file, vectors)),
            'open': (lambda: open_store(uri, 'a' * 32), lambda: np.load(file)),
        }
        for what, (ours, baseline) in once.items():
            clock = Clock()  # run once: adding the same vectors again would replace them
            clock('ours', ours)
            clock('baseline', baseline)
            seconds = {name: values[0] for name, values in clock.seconds.items()}
            rows.append(dict(seconds, what=f'gallery: {what}', repeats=1))
        for what, some in (('16 queries', queries), ('one query', queries[:1])):
            ours, baseline = partial(store.search, some, 10), partial(brute_force, some)
            row = measure.compare(ours, baseline, settings, 2 if settings.quick else 9)
            gflop, gbyte = 2 * len(some) * vectors.size / 1e9, vectors.nbytes / 1e9
            rows.append(dict(row, what=f'gallery: {what}', gflop=gflop, gbyte=gbyte))
    return rows


def codes(count: int, settings: Settings) -> list[Row]:
    """Compare a gallery of product-quantized codes with an exact search over its shards.

    The vectors are generated shard by shard around 5,000 centers, and an exact search opens one
    shard at a time: its time is the sum over the shards. Queries are vectors of the gallery plus
    noise of equal magnitude (cosine 0.7); a query counts as missed if its vector is not among the
    ten nearest.
    """
    import faiss

    part = min(count, 100_000)
    lists, pieces = (16, '8x4') if settings.quick else (1024, '64')
    faiss.omp_set_num_threads(settings.threads)
    index = faiss.index_factory(CHANNELS, f'IVF{lists},PQ{pieces}', faiss.METRIC_INNER_PRODUCT)
    centers = np.random.default_rng(0).standard_normal((5000, CHANNELS), dtype=np.float32)
    clock = Clock()
    exact = 0.0
    for start in range(0, count, part):
        vectors = unit_vectors(part, start + 1, centers)
        if not index.is_trained:
            queries = vectors[:64] + unit_vectors(64, 7)
            clock('train', index.train, vectors[: 40 * lists])
        clock('add', index.add, vectors)
        flat = faiss.IndexFlatIP(CHANNELS)
        flat.add(vectors)
        search = partial(flat.search, queries[:1], 10)
        exact += measure.compare(search, None, settings, rounds=3)['ours']
    index.nprobe = max(lists // 32, 1)
    search = partial(index.search, queries[:1], 10)
    row = measure.compare(search, None, settings, 2 if settings.quick else 9)
    _, numbers = index.search(queries, 10)
    missed = float(np.mean([own not in found for own, found in enumerate(numbers)]))
    size = len(faiss.serialize_index(index)) / count
    once = {
        'train': dict(ours=sum(clock.seconds['train'])),
        'add': dict(ours=sum(clock.seconds['add'])),
        'bytes per image': dict(ours=size, baseline=4.0 * CHANNELS, unit='bytes'),
        'missed of 64 queries': dict(ours=missed, unit='share'),
    }
    rows = [dict(one, what=f'gallery of codes: {what}', repeats=1) for what, one in once.items()]
    return [*rows, dict(row, baseline=exact)]


# ------------------------------------------------------------------------------------ evaluation


def write_features(folder: Path, images: int) -> None:
    """Write random regions and five captions per image in the precomputed layout."""
    rng = np.random.default_rng(0)
    regions = (rng.standard_normal((REGIONS, 2048), dtype=np.float32) for _ in range(images))
    write_regions(str(folder / 'testall_ims.npy'), regions)
    lines = (' '.join(rng.choice(WORDS, rng.integers(5, 20))) for _ in range(5 * images))
    (folder / 'testall_caps.txt').write_text('\n'.join(lines))
    Vocabulary([*('<pad>', '<start>', '<end>', '<unk>'), *WORDS]).save(folder / 'vocab.json')


def evaluation_of(folder: Path, quick: bool, images: int, launcher: str) -> Runner:
    """Return a runner that tests SCAN, or VSE in a trial run, on the features in the folder."""
    name = 'vse-fc_hn_1xb128-20e_coco' if quick else 'scan-t2i-avg_hn_1xb128-20e_coco'
    cfg = load_config(ROOT / f'configs/rvse/{name}.py')
    cfg.model.text_encoder.update(vocab_file=str(folder / 'vocab.json'), vocab_size=None)
    cfg.test_dataloader.update(batch_size=64, num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.data_root = str(folder)
    cfg.test_cfg.fold_size = images // 5
    cfg.update(custom_hooks=[], log_level='WARNING')
    prepare(cfg, '', launcher, str(folder / 'work'))
    return Runner.from_cfg(cfg)
