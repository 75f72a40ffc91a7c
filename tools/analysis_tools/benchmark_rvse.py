"""Benchmark image-text similarities and an evaluation at COCO's size.

    python tools/analysis_tools/benchmark_rvse.py similarity --shapes 100x500 500x2500
    python tools/analysis_tools/benchmark_rvse.py speed --out speed.json
    python tools/analysis_tools/benchmark_rvse.py plot speed.json --out figure8.png \
        --points 'RVSE++=524.2:VSE' 'SGRAF=499.6:SGR+SAF'
    python tools/analysis_tools/benchmark_rvse.py coco --model VSE
    python tools/analysis_tools/benchmark_rvse.py gallery --vectors 1000000

`similarity` times the published loop, one caption at a time (published_loops.py), in turn with
ours, and compares their scores. The loop of SCAN and BFAN is timed in float32 and, as in the
released evaluation, in float64. `speed` measures the axis of Figure 8, the pairs that each model
scores per second, and `plot` draws the figure from these and from given RSUMs. `coco` evaluates
random features with the shapes of COCO 5K (5,000 images, 25,000 captions) through the test loop,
from regions and captions on disk to recalls. `gallery` fills a store of RetrievalInferencer with
random vectors and queries it. Weights are random; speed does not depend on them.
"""

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import published_loops as published
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import projects.rvse.register  # noqa: F401
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.speed.allocator import keep_freed_memory
from projects.common.speed.products import fast_products
from projects.common.speed.timing import (
    PeakMemory,
    show_table,
    time_in_turn,
)

REGIONS, CHANNELS = 36, 1024
# The config of each similarity and, for the released loop, the function that scores a caption.
MODELS_OF = {
    'SCAN t2i': (dict(type='SCANSimilarity', direction='t2i'), published.scan('t2i', 'AVG', 9, 6)),
    'SCAN i2t': (dict(type='SCANSimilarity', direction='i2t'), published.scan('i2t', 'AVG', 4, 5)),
    'BFAN equal': (dict(type='BFANSimilarity', focus='equal'), published.bfan('equal')),
    'BFAN prob': (dict(type='BFANSimilarity', focus='prob'), published.bfan('prob')),
    'SGR': (dict(type='SGRSimilarity'), None),
    'SAF': (dict(type='SAFSimilarity'), None),
    'VSE': (dict(type='CosineSimilarity'), None),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(MODELS_OF[name][0])
    logging.disable(logging.INFO)
    if hasattr(model, 'init_weights'):
        model.init_weights()
    logging.disable(logging.NOTSET)
    return model.eval()


def embeddings(
    name: str, images: int, captions: int, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unit vectors like those of encoders, with realistic caption lengths.

    The lengths include <start> and <end>. All vectors share a direction, so that attention is not
    flat.
    """
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(7, 22, (captions,), generator=generator)  # 14 on average
    common = torch.randn(CHANNELS, generator=generator)

    def unit(*shape: int) -> Tensor:
        made = torch.randn(*shape, CHANNELS, generator=generator) + common
        return (made / made.norm(dim=-1, keepdim=True)).to(device)

    sizes = torch.full((images,), REGIONS, device=device)
    if name == 'VSE':
        return unit(images), sizes, unit(captions), lengths.to(device)
    return unit(images, REGIONS), sizes, unit(captions, 21), lengths.to(device)


def loop_score(name: str, model: nn.Module, images: Tensor) -> published.Score:
    score = MODELS_OF[name][1]
    return score or published.sgraf(model, name.lower(), images)


def variants_of(
    name: str, inputs: tuple[Tensor, ...], loop_captions: int
) -> dict[str, tuple[Callable[[], Tensor], int]]:
    """Return what to time, and the number of pairs that each variant scores."""
    images, sizes, captions, lengths = inputs
    model = build(name).to(images.device)
    pairs = len(images) * len(captions)
    ours = partial(model, images, sizes, captions, lengths)
    if name == 'VSE':
        return {'loop': (lambda: torch.mm(images, captions.T), pairs), 'ours': (ours, pairs)}
    some, of_some = captions[:loop_captions], lengths[:loop_captions]
    of_loop = len(images) * len(some)

    def loop(dtype: torch.dtype) -> Tensor:
        regions = images.to(dtype)
        score = loop_score(name, model, regions)
        return published.loop(score, regions, some.to(dtype), of_some)

    variants = {'loop': (partial(loop, torch.float32), of_loop), 'ours': (ours, pairs)}
    if MODELS_OF[name][1]:  # SGRAF's evaluation casts to float32
        variants['loop, float64'] = (partial(loop, torch.float64), of_loop)
    return variants


def largest_difference(name: str, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> float:
    """Return the largest difference between ours and the loop on the first captions.

    BFAN's masks are discontinuous: in float32, a weight at the limit may fall on either side.
    """
    images, sizes, captions, lengths = inputs
    images, captions, lengths = images.to(dtype), captions[:20].to(dtype), lengths[:20]
    model = build(name).to(images)
    score = loop_score(name, model, images)
    loop = published.loop(score, images, captions, lengths)
    return float((model(images, sizes, captions, lengths) - loop).abs().max())


@torch.inference_mode()
def similarity(args: argparse.Namespace) -> Iterator[dict]:
    """Yield a row for each shape and model."""
    for shape in args.shapes:
        images, captions = shape
        for name in args.models:
            inputs = embeddings(name, images, captions, args.device)
            variants = variants_of(name, inputs, args.loop_captions or captions)
            peaks = {}
            for variant, (run, _) in variants.items():
                with PeakMemory(args.device) as memory:
                    run()
                peaks[variant] = memory.peak / 2**20
            with_memory = {variant: run for variant, (run, _) in variants.items()}
            seconds = time_in_turn(with_memory, args.rounds, args.device, warm_up=1)
            speed = {variant: variants[variant][1] / seconds[variant] for variant in variants}
            row = {
                'model': name,
                'shape': f'{images} x {captions}',
                'loop, pairs/s': round(speed['loop']),
                'ours, pairs/s': round(speed['ours']),
                'times': speed['ours'] / speed['loop'],
            }
            if 'loop, float64' in speed:
                row['loop float64, pairs/s'] = round(speed['loop, float64'])
                row['times (float64)'] = speed['ours'] / speed['loop, float64']
            row['loop, peak MiB'] = round(peaks['loop'])
            row['ours, peak MiB'] = round(peaks['ours'])
            if name != 'VSE':
                row['difference'] = largest_difference(name, inputs, torch.float32)
                row['in float64'] = largest_difference(name, inputs, torch.float64)
            yield row


@torch.inference_mode()
def speed(args: argparse.Namespace) -> Iterator[dict]:
    """Yield a row for each model: thousands of pairs per second, as counted in Figure 8."""
    for name in args.models:
        images, sizes, captions, lengths = embeddings(name, args.images, args.captions, args.device)
        model = build(name).to(args.device)
        run = partial(model, images, sizes, captions, lengths)
        seconds = time_in_turn({'ours': run}, args.rounds, args.device, warm_up=1)['ours']
        yield {
            'model': 'VSE, RVSE++' if name == 'VSE' else name,
            'pairs': f'{args.images} x {args.captions}',
            'seconds': seconds,
            'Kpps': len(images) * len(captions) / seconds / 1000,
        }


class Point(NamedTuple):
    """Represent a model of Figure 8: its RSUM, and the parts of an ensemble that score for it."""

    name: str
    rsum: float
    parts: list[str]


def point(text: str) -> Point:
    found = re.fullmatch(r'(.+)=([\d.]+):(.+)', text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f'{text!r}, expected NAME=RSUM:MODEL[+MODEL] such as SGRAF=499.6:SGR+SAF'
        )
    return Point(found[1], float(found[2]), found[3].split('+'))


def plot(args: argparse.Namespace) -> Iterator[dict]:
    """Plot RSUM against thousands of pairs per second; yield a row for each point of Figure 8."""
    from matplotlib.figure import Figure

    rows = json.loads(Path(args.speeds).read_text())
    speeds = {row['model'].split(',')[0]: row['Kpps'] for row in rows}  # 'VSE, RVSE++'
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.add_subplot()
    for name, rsum, parts in args.points:
        for part in parts:
            if part not in speeds:
                raise InputError(f'{args.speeds}: no {part!r}; it has {", ".join(sorted(speeds))}')
        # the parts of an ensemble score one after the other
        speed = 1 / sum(1 / speeds[part] for part in parts)
        axes.scatter(speed, rsum, s=40)
        axes.annotate(name, (speed, rsum), (5, 5), textcoords='offset points')
        yield {'model': name, 'Kpps': speed, 'RSUM': rsum}
    axes.set(
        xscale='log',
        xlabel='thousands of image-text pairs a second (ours)',
        ylabel=f'RSUM ({args.rsum_label})',
    )
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    figure.savefig(args.out, dpi=120)


# ---------------------------------------------------------------------------------- COCO 5K

WORDS = [f'w{i}' for i in range(10_000)]


def write_coco(folder: Path, images: int) -> None:
    """Write random regions and captions in the precomputed layout, and a vocabulary."""
    from projects.rvse.datasets import write_regions
    from projects.rvse.text import Vocabulary

    rng = np.random.default_rng(0)
    write_regions(
        str(folder / 'testall_ims.npy'),
        (rng.standard_normal((REGIONS, 2048), dtype=np.float32) for _ in range(images)),
    )
    lengths = rng.integers(5, 20, 5 * images)  # 12 words on average, plus <start> and <end>
    lines = (' '.join(rng.choice(WORDS, n)) for n in lengths)
    (folder / 'testall_caps.txt').write_text('\n'.join(lines))
    Vocabulary([*('<pad>', '<start>', '<end>', '<unk>'), *WORDS]).save(folder / 'vocab.json')


def coco_runner(folder: Path, name: str, fold_size: int, launcher: str = 'none'):
    from mmengine.config import Config
    from mmengine.runner import Runner

    from projects.common.cli.run import prepare

    pool = dict(type='GPO') if name == 'VSE' else None
    pack = dict(
        type='mmpretrain.PackInputs',
        input_key='regions',
        algorithm_keys=['text', 'image_id', 'gt_text_id'],
    )
    dataset = dict(
        type='PrecompMatchingDataset',
        split='testall',
        data_root=str(folder),
        pipeline=[dict(type='LoadRegions'), pack],
        test_mode=True,
    )
    cfg = Config(
        dict(
            model=dict(
                type='ImageTextMatcher',
                image_encoder=dict(type='RegionFC', in_channels=2048, channels=CHANNELS, pool=pool),
                text_encoder=dict(
                    type='BiGRUTextEncoder', vocab_file=str(folder / 'vocab.json'), pool=pool
                ),
                similarity=MODELS_OF[name][0],
            ),
            test_dataloader=dict(
                dataset=dataset,
                batch_size=64,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='pseudo_collate'),
            ),
            test_evaluator=dict(type='MatchingMetric'),
            test_cfg=dict(type='MatchingTestLoop', num_folds=5, fold_size=fold_size),
            default_scope='mmpretrain',
            log_level='WARNING',
        )
    )
    prepare(cfg, '', launcher, str(folder / 'work'))
    return Runner.from_cfg(cfg)


def coco(args: argparse.Namespace) -> Iterator[dict]:
    """Yield one row for the whole evaluation."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_coco(folder, args.images)
        runner = coco_runner(folder, args.model, args.images // 5)
        encoded = []
        encode = runner.test_loop._encode
        runner.test_loop._encode = lambda *parts: (encode(*parts), encoded.append(time.time()))
        with PeakMemory() as memory:
            start = time.time()
            metrics = runner.test()
            end = time.time()
        yield {
            'model': args.model,
            'shape': f'{args.images} x {5 * args.images}',
            'threads': torch.get_num_threads(),
            'encoding, s': encoded[0] - start,
            'scoring, s': end - encoded[0],
            'in all, s': end - start,
            'peak MiB': round(memory.peak / 2**20),
            'RSUM 5K (chance)': metrics['matching/rsum'],
        }


def unit_vectors(count: int, channels: int, seed: int) -> np.ndarray:
    """Return unit vectors (count, channels), float32."""
    vectors = np.random.default_rng(seed).standard_normal((count, channels), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def gallery(args: argparse.Namespace) -> Iterator[dict]:
    """Yield one row per kind of store: filling, saving, opening and querying it."""
    from projects.rvse.retrieval import open_store

    part = 20_000
    for store in args.stores:
        kind, _, option = store.partition(':')
        key = 'factory' if kind == 'faiss' else 'index_type'
        options = {key: option} if option else {}
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            uri = f'{kind}:{name}/store' + ('.db' if kind == 'milvus' else '')
            build = 0.0
            with PeakMemory() as memory, open_store(uri, 'a' * 32, **options) as opened:
                for start in range(0, args.vectors, part):
                    count = min(part, args.vectors - start)
                    vectors = unit_vectors(count, args.channels, start)
                    names = [f'pictures/{start + i:09}.jpg' for i in range(count)]
                    begin = time.perf_counter()
                    opened.add(names, vectors)
                    build += time.perf_counter() - begin
                begin = time.perf_counter()
                opened.save()
                save = time.perf_counter() - begin
            begin = time.perf_counter()
            with open_store(uri, 'a' * 32, **options) as opened:
                reopen = time.perf_counter() - begin
                queries = {n: unit_vectors(n, args.channels, 7) for n in (1, 16)}
                assert opened.search(unit_vectors(1, args.channels, 0)[:1], 1)
                latency = time_in_turn(
                    {str(n): partial(opened.search, rows, 10) for n, rows in queries.items()},
                    rounds=args.rounds,
                )
            disk = sum(path.stat().st_size for path in Path(name).rglob('*') if path.is_file())
        yield {
            'store': store,
            'vectors': f'{args.vectors:,} x {args.channels}',
            'threads': torch.get_num_threads(),
            'add, s': build,
            'save, s': save,
            'open, s': reopen,
            'disk GiB': disk / 2**30,
            'peak GiB': memory.peak / 2**30,
            '1 query, ms': 1e3 * latency['1'],
            '16 queries, ms': 1e3 * latency['16'],
        }


def shape(text: str) -> tuple[int, int]:
    images, _, captions = text.partition('x')
    if not (images.isdigit() and captions.isdigit()):
        raise argparse.ArgumentTypeError(f'{text!r}, expected IMAGESxCAPTIONS such as 100x500')
    return int(images), int(captions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    one = commands.add_parser('similarity', help='the published loop against ours')
    one.add_argument(
        '--shapes',
        nargs='+',
        type=shape,
        default=[(100, 500), (500, 2500)],
        metavar='IxC',
        help='pictures x captions (default: 100x500 500x2500)',
    )
    one.add_argument(
        '--loop-captions', type=int, help='time the loop on so many captions only (default: all)'
    )
    one.set_defaults(run=similarity)
    two = commands.add_parser('speed', help='Figure 8: what each model scores in a second')
    two.add_argument('--images', type=int, default=1000, help='default: %(default)s')
    two.add_argument('--captions', type=int, default=500, help='default: %(default)s')
    two.add_argument('--out', help='also write the rows to this json')
    two.set_defaults(run=speed)
    for command in (one, two):
        command.add_argument('--models', nargs='+', choices=MODELS_OF, default=list(MODELS_OF))
        command.add_argument('--rounds', type=int, default=3, help='rounds whose median counts')
        command.add_argument('--device', default='cpu', help='such as cuda:0')
    three = commands.add_parser('coco', help='COCO 5K end to end on random features')
    three.add_argument(
        '--model', choices=('VSE', 'SCAN t2i', 'SCAN i2t', 'BFAN equal'), default='VSE'
    )
    three.add_argument('--images', type=int, default=5000, help='default: %(default)s')
    three.add_argument('--folder', help='where 3 GB may lie meanwhile (default: /tmp)')
    three.set_defaults(run=coco)
    four = commands.add_parser('gallery', help='fill a store of vectors, and ask it')
    four.add_argument(
        '--stores',
        nargs='+',
        default=['faiss'],
        metavar='ENGINE[:INDEX]',
        help='such as faiss (exact), faiss:HNSW32, milvus (Milvus Lite); default: faiss',
    )
    four.add_argument('--vectors', type=int, default=1_000_000, help='default: %(default)s')
    four.add_argument('--channels', type=int, default=1024, help='default: %(default)s')
    four.add_argument('--rounds', type=int, default=9, help='rounds whose median counts')
    four.add_argument('--folder', help='where the stores lie meanwhile (default: /tmp)')
    four.set_defaults(run=gallery)
    five = commands.add_parser('plot', help='Figure 8: RSUM beside speed')
    five.add_argument('speeds', help='the json of `speed --out`')
    five.add_argument(
        '--points', nargs='+', type=point, required=True, metavar='NAME=RSUM:MODEL[+MODEL]'
    )
    five.add_argument('--rsum-label', choices=('paper', 'ours'), default='paper')
    five.add_argument('--out', required=True, help='the image to write')
    five.set_defaults(run=plot)
    for command in (one, two, three, four, five):
        command.add_argument(
            '--threads', type=int, default=len(os.sched_getaffinity(0)), help='default: all cores'
        )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ.setdefault('OMP_NUM_THREADS', str(args.threads))  # for faiss, once imported
    keep_freed_memory()
    rows = []
    for row in args.run(args):
        rows.append(row)
        print(', '.join(f'{key}: {value}' for key, value in row.items()), flush=True)
    print()
    show_table(rows)
    if args.run is speed and args.out:
        Path(args.out).write_text(json.dumps(rows, indent=1))


if __name__ == '__main__':
    with report_user_errors(), fast_products():
        main()
