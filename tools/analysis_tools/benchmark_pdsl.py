"""Benchmark PDSL: pseudo masks, memory of training, stages of inference.

    python tools/analysis_tools/benchmark_pdsl.py cues CONFIG --images VOC2012/JPEGImages
    python tools/analysis_tools/benchmark_pdsl.py memory CONFIG --proposals 500 1000 2000
    python tools/analysis_tools/benchmark_pdsl.py inference CONFIG --images VOC2012/JPEGImages

Timings vary between runs, so figures of two runs are not comparable: variants take turns in one
run. Weights are random; neither time nor memory depends on them, except through the number of
foreground proposals in `memory` and of detections in `inference`, which are fixed here.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from projects.common.build import build_quietly
from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.speed.products import fast_products
from projects.common.speed.timing import (
    show_table,
    synchronize,
    time_in_turn,
)
from projects.pdsl.cues import CachedCue, GrabCutCue
from projects.pdsl.cues.grabcut import grabcut_rectangle
from projects.pdsl.models import use_no_cue
from projects.pdsl.models.detections import detections
from projects.pdsl.models.pseudo_labels import PseudoGroundTruth, assign, sample_seeds
from projects.pdsl.proposals import list_pictures, selective_search, tidy

GIB = 2**30
SCALES = range(480, 1217, 32)  # short sides in training (section 4.3)
CLASSES = 3  # present in an image


# ----------------------------------------------------------------------------------------- cues


def training_views(
    path: str, rounds: int, num_seeds: int, max_proposals: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
    """Yield augmented views of an image (H, W, 3), their seeds (s, 4), XYXY, and metainfo.

    The pseudo ground truth consists of the same proposals in all views, as for a model that has
    settled: the largest ones that do not overlap much, which gives each of them many neighbours.
    """
    picture = mmcv.imread(path)
    boxes, scores = tidy(selective_search(picture, max_proposals=max_proposals), None)
    truth = largest_apart(boxes, picture.shape[:2])
    pipeline = Compose(
        [
            dict(type='RandomChoiceResize', scales=[(2000, s) for s in SCALES],
                 resize_type='mmdet.Resize', keep_ratio=True),
            dict(type='mmdet.RandomFlip', prob=0.5),
            dict(type='mmdet.RandomCrop', crop_type='relative_range', crop_size=(0.9, 0.9),
                 allow_negative_crop=True),
            dict(type='ProjectProposals', deduplicate=False, min_side=0),
        ]
    )  # fmt: skip
    for _ in range(rounds):
        view = pipeline(
            dict(
                img=picture,
                img_path=path,
                img_shape=picture.shape[:2],
                ori_shape=picture.shape[:2],
                ori_proposals=boxes,
                ori_proposals_scores=scores,
            )
        )
        seeds = seeds_of(torch.from_numpy(view['proposals']), truth, num_seeds)
        yield view['img'], seeds.numpy(), view


def largest_apart(boxes: np.ndarray, size: tuple[int, int]) -> list[int]:
    """Select the largest boxes, up to half of the image, with overlaps below 0.3."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    chosen: list[int] = []
    for row in np.argsort(-areas, kind='stable').tolist():
        if areas[row] > 0.5 * size[0] * size[1]:
            continue
        if all(overlap(boxes[row], boxes[other]) < 0.3 for other in chosen):
            chosen.append(row)
        if len(chosen) == CLASSES:
            break
    return chosen


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the IoU of two boxes (4,)."""
    common = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return common / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common, 1e-9)


def seeds_of(proposals: Tensor, truth: list[int], num_seeds: int) -> Tensor:
    """Return the distinct seed boxes of section 3.3, as the RoI head passes them to the cue."""
    labels = torch.arange(len(truth))
    ones = torch.ones(len(truth))
    pseudo = PseudoGroundTruth(proposals[truth], labels, ones, ones, torch.tensor(truth))
    seeds = sample_seeds(assign(proposals, pseudo, len(truth)), num_seeds)
    return proposals[seeds.unique()]


def published_cue(image: np.ndarray, boxes: np.ndarray, max_side: int = 400) -> np.ndarray:
    """Compute masks like the released code: box by box, resizing the image each time."""
    height, width = image.shape[:2]
    masks = np.zeros((len(boxes), height, width), bool)
    for box, out in zip(boxes, masks):
        scale = min(1.0, max_side / max(height, width))
        small = cv2.resize(image, (round(width * scale), round(height * scale)))
        rectangle = grabcut_rectangle(box, image.shape[:2], small.shape[:2])
        if rectangle is None:
            continue
        mask = np.zeros(small.shape[:2], np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, mask, rectangle, *models, 5, cv2.GC_INIT_WITH_RECT)
        found = np.where(mask % 2 == 1, 1.0, 0.0).astype(np.float32)
        out[:] = cv2.resize(found, (width, height)) >= 0.5
    return masks


def mean_iou(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Compute the IoU of each pair of masks (n, H, W)."""
    both, either = (a & b).sum(axis=(1, 2)), (a | b).sum(axis=(1, 2))
    return (both / either.clip(1)).tolist()


def cues(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Measure the seconds per image of an iteration's pseudo masks, and how well masks agree."""
    cv2.setNumThreads(1)
    np.random.seed(args.seed)
    count = cfg.model.roi_head.num_seeds
    paths = list(list_pictures(args.images).values())[: args.pictures]
    exact = {threads: GrabCutCue(num_threads=threads) for threads in (1, 2)}
    seconds: dict[str, list[float]] = {}
    agreement: dict[str, list[float]] = {'cached': [], 'other seed': []}
    numbers = []
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedCue(GrabCutCue(num_threads=2), folder)
        for path in paths:
            first, second = training_views(path, 2, count, args.proposals[-1])
            image, seeds, meta = first
            start = time.perf_counter()
            cached(image, seeds, meta)
            seconds.setdefault('cached, cold, 2 threads', []).append(time.perf_counter() - start)
            image, seeds, meta = second
            masks: dict[str, np.ndarray] = {}

            def run(name: str, cue: Callable, *inputs, masks: dict = masks) -> None:
                masks[name] = cue(*inputs)

            found = time_in_turn(
                {
                    'published': partial(run, 'published', published_cue, image, seeds),
                    'exact, 1 thread': partial(run, 'one', exact[1], image, seeds),
                    'exact, 2 threads': partial(run, 'two', exact[2], image, seeds),
                    'cached, warm': partial(run, 'cached', cached, image, seeds, meta),
                },
                rounds=1,
                warm_up=0,
            )
            for name, value in found.items():
                seconds.setdefault(name, []).append(value)
            assert np.array_equal(masks['one'], masks['two'])
            agreement['cached'] += mean_iou(masks['cached'], masks['two'])
            other = GrabCutCue(num_threads=2, seed=1)(image, seeds)
            agreement['other seed'] += mean_iou(other, masks['two'])
            numbers.append(len(seeds))
            print(f'{Path(path).name}: {len(seeds)} seeds, {image.shape[1]} x {image.shape[0]}, '
                  + ', '.join(f'{name} {value:.2f} s' for name, value in found.items()),
                  flush=True)  # fmt: skip
    print(
        f'{len(paths)} pictures, {statistics.mean(numbers):.1f} different seeds each; IoU with '
        f'exact masks: cached {statistics.mean(agreement["cached"]):.3f} (median '
        f'{statistics.median(agreement["cached"]):.3f}), exact with another seed '
        f'{statistics.mean(agreement["other seed"]):.3f} (median '
        f'{statistics.median(agreement["other seed"]):.3f})'
    )
    names = [name for name in seconds if 'cold' not in name] + ['cached, cold, 2 threads']
    published = statistics.mean(seconds['published'])
    return [
        {
            'masks': name,
            's/iteration': statistics.mean(seconds[name]),
            'of published': statistics.mean(seconds[name]) / published,
        }
        for name in names
    ]


# --------------------------------------------------------------------------------------- memory


def build_model(cfg: Config, device: str) -> nn.Module:
    """Build the config's model with random weights and no cue."""
    use_no_cue(cfg.model)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    return build_quietly(cfg.model, 'mmdet').to(device)


def random_proposals(count: int, height: int, width: int) -> Tensor:
    """Return boxes (count, 4), XYXY: half around three objects, half anywhere."""
    rng = np.random.default_rng(0)
    objects = np.array([[0.1, 0.1, 0.45, 0.6], [0.5, 0.2, 0.95, 0.7], [0.3, 0.5, 0.7, 0.95]])
    near = objects[np.arange(count // 2) % 3] + rng.uniform(-0.05, 0.05, (count // 2, 4))
    corners = np.sort(rng.uniform(0, 1, (count - len(near), 2, 2)), axis=1).reshape(-1, 4)
    corners[:, 2:] += 0.02
    boxes = np.concatenate((near, corners)).clip(0, 1) * np.array([width, height] * 2)
    return torch.from_numpy(boxes).float()


def memory(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Measure peak memory and time of a training step, each in a separate process."""
    variants = {
        'all RoIs at once': [],
        f'{args.chunk} RoIs at a time': ['--chunk', str(args.chunk)],
        f'{args.chunk} RoIs and one block at a time': ['--chunk', str(args.chunk), '--with-cp'],
    }
    rows = []
    for name, options in variants.items():
        for count in args.proposals if '--with-cp' not in options else args.proposals[-1:]:
            command = [sys.executable, __file__, 'step', '--proposals', str(count), *options]
            if not options:
                command += ['--chunk', '0']
            command += ['--size', *map(str, args.size), '--device', args.device]
            command += ['--threads', str(torch.get_num_threads())]
            with tempfile.TemporaryDirectory() as folder:
                config = str(Path(folder, 'config.py'))
                cfg.dump(config)
                done = subprocess.run([*command, config], capture_output=True, text=True)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f'ended with {done.returncode}']
                row = {'note': lines[-1][:80]}
            else:
                row = json.loads(done.stdout.splitlines()[-1])
            rows.append({'features': name, 'proposals': count, **row})
            print(rows[-1], flush=True)
    return rows


def step(args: argparse.Namespace, cfg: Config) -> None:
    """Run the first training step of one setting and print a line of JSON."""
    cfg.model.roi_head.chunk_size = args.chunk
    cfg.model.backbone.with_cp = args.with_cp
    model, optimizer = build_for_training(cfg, args.device)
    (count,) = args.proposals
    data = training_data(model, args.size, count, args.device)
    synchronize(args.device)
    start = time.perf_counter()
    losses = model(**data, mode='loss')
    sum(losses.values()).backward()
    optimizer.step()
    synchronize(args.device)
    seconds = time.perf_counter() - start
    if args.device.startswith('cuda'):
        peak = torch.cuda.max_memory_allocated() / GIB
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    print(json.dumps({'GiB': peak, 's': seconds}))


def build_for_training(cfg: Config, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build the config's model with a cue of negligible cost, and SGD."""
    model = build_model(cfg, device).train()
    model.learning = 'parallel'
    model.cue = rectangles
    trained = [p for p in model.parameters() if p.requires_grad]
    # tiny steps, so that all timed steps have the same foreground proposals
    return model, torch.optim.SGD(trained, lr=1e-12, momentum=0.9)


def training_data(model: nn.Module, size: tuple[int, int], count: int, device: str) -> dict:
    """Return a preprocessed batch of one noise image (width, height) with proposals."""
    width, height = size
    noise = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=noise, dtype=torch.uint8)
    meta = dict(img_shape=(height, width), img_path='noise', tags=list(range(CLASSES)))
    boxes = random_proposals(count, height, width).to(device)
    proposals = InstanceData(bboxes=boxes, scores=torch.zeros(count, device=device))
    sample = DetDataSample(metainfo=meta, proposals=proposals)
    return model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), True)


def rectangles(image: np.ndarray, boxes: np.ndarray, metainfo: dict) -> np.ndarray:
    """Return the boxes themselves as masks, a cue of negligible cost."""
    masks = np.zeros((len(boxes), *image.shape[:2]), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int).tolist()):
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return masks


# ------------------------------------------------------------------------------------ inference


@torch.no_grad()
def inference(args: argparse.Namespace, cfg: Config) -> list[dict]:
    """Measure the median time of each stage, from the image file to full-size masks."""
    model = build_model(cfg, args.device).eval()
    paths = list(list_pictures(args.images).values())[: args.pictures]
    stages: dict[str, list[float]] = {}
    counts = []
    for path in paths:
        for repeat in range(2):  # the first repeat warms up
            found: dict[str, float] = {}
            timed = partial(time_stage, found, args.device)
            proposals, detected = infer(model, path, args.short_side, args.proposals[-1], timed)
            if repeat:
                counts.append((proposals, detected))
                for name, value in found.items():
                    stages.setdefault(name, []).append(value)
    print(
        f'{len(paths)} pictures, {statistics.mean(count for count, _ in counts):.0f} proposals and '
        f'{statistics.mean(count for _, count in counts):.0f} detections each'
    )
    medians = {name: statistics.median(values) for name, values in stages.items()}
    rows = [{'stage': name, 's': value} for name, value in medians.items()]
    total = statistics.median(map(sum, zip(*stages.values())))
    searching = stages['proposals (Selective Search)']
    rest = statistics.median(
        sum(values) - search for *values, search in zip(*stages.values(), searching)
    )
    return [*rows, {'stage': 'all', 's': total}, {'stage': 'all but the proposals', 's': rest}]


def time_stage(found: dict[str, float], device: str, name: str, function: Callable, *inputs):
    """Run a function and return its result; store the elapsed seconds in ``found``."""
    synchronize(device)
    start = time.perf_counter()
    result = function(*inputs)
    synchronize(device)
    found[name] = time.perf_counter() - start
    return result


def infer(
    model: nn.Module,
    path: str,
    short_side: int,
    count: int,
    timed: Callable,
    boxes: np.ndarray | None = None,
) -> tuple[int, int]:
    """Run ``model.test_step`` stage by stage; return the numbers of proposals and instances.

    ``timed(name, function, *inputs)`` runs each stage. ``boxes`` (n, 4) are proposals to use
    instead of searching for them.
    """
    head = model.roi_head
    picture = mmcv.imread(path)
    if boxes is None:
        boxes = timed('proposals (Selective Search)', propose, picture, count)

    def prepare() -> dict:
        image = mmcv.imrescale(mmcv.imread(path), (2000, short_side))
        scale = (image.shape[1] / picture.shape[1], image.shape[0] / picture.shape[0])
        meta = dict(img_shape=image.shape[:2], ori_shape=picture.shape[:2], scale_factor=scale)
        scaled = torch.from_numpy(boxes * np.array(scale * 2)).float()
        instances = InstanceData(bboxes=scaled, scores=torch.zeros(len(boxes)))
        sample = DetDataSample(metainfo=meta, proposals=instances)
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        return model.data_preprocessor(dict(inputs=[tensor], data_samples=[sample]), False)

    data = timed('picture: read, resize, normalise', prepare)
    (sample,) = data['data_samples']
    x = timed('backbone', model.extract_feat, data['inputs'])
    rois = bbox2roi([sample.proposals.bboxes])
    pooled = timed('RoIPool', head.bbox_roi_extractor, x, rois)

    def classify() -> tuple[Tensor, Tensor]:
        features = head.bbox_head.extract(pooled)
        scores = features.new_zeros(len(features), head.num_classes)
        return head.bbox_head(sample.proposals.bboxes, features, scores)

    probs, refined = timed('fully connected layers and heads', classify)
    shape = sample.metainfo['img_shape']
    result = timed('NMS', detections, probs, refined, shape, head.test_cfg)
    masks = timed(
        'mask branch', lambda: head._mask_forward(x, bbox2roi([result.bboxes]))['mask_preds']
    )
    scale = result.bboxes.new_tensor(sample.metainfo['scale_factor']).repeat(2)

    def paste() -> None:
        result.bboxes = result.bboxes / scale
        meta = dict(sample.metainfo, scale_factor=(1.0, 1.0))
        head.mask_head.predict_by_feat([masks], [result], [meta], head.test_cfg, rescale=True)

    timed('masks into the picture', paste)
    return len(boxes), len(result)


def propose(picture: np.ndarray, count: int) -> np.ndarray:
    return tidy(selective_search(picture, max_proposals=None), None, count)[0]


# ----------------------------------------------------------------------------------------- main


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=('cues', 'memory', 'inference', 'step'))
    parser.add_argument('config', help='config file of a PDSL')
    parser.add_argument('--images', help='cues, inference: folder of pictures')
    parser.add_argument('--pictures', type=int, default=6, help='how many (default: %(default)s)')
    parser.add_argument(
        '--proposals', type=int, nargs='+', default=[500, 1000, 2000],
        help='numbers of proposals; cues and inference take the last (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--size', type=int, nargs=2, default=(1216, 912), metavar=('WIDTH', 'HEIGHT'),
        help='memory: of the picture, in pixels (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument('--chunk', type=int, default=256, help='memory: RoIs at a time')
    parser.add_argument('--with-cp', action='store_true', help='step: recompute the backbone')
    parser.add_argument(
        '--short-side', type=int, default=688, help='inference: pixels (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='cues: of the augmentation')
    parser.add_argument('--threads', type=int, help="PyTorch's threads")
    parser.add_argument('--device', help='such as cpu or cuda; default: the fastest there is')
    parser.add_argument('--out', help='also write the rows to this JSON file')
    add_cfg_options(parser)
    args = parser.parse_args()
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.what in ('cues', 'inference') and not args.images:
        raise InputError(f'{args.what}: needs --images, a folder of pictures')
    return args


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if args.what == 'step':
        step(args, cfg)
        return
    rows = globals()[args.what](args, cfg)
    name = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'CPU'
    print(
        f'\n{args.what} of {args.config}, {name}, {torch.get_num_threads()} threads of PyTorch '
        f'{torch.__version__}, OpenCV {cv2.__version__}'
    )
    show_table(rows)
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    with report_user_errors(), fast_products():
        main()
