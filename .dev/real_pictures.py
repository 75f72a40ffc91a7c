"""Run the tables of docs/real_pictures.md again.

    python .dev/real_pictures.py data SOURCE work_dirs/real
    python .dev/real_pictures.py rvse work_dirs/real --seeds 0 1 2
    python .dev/real_pictures.py towers work_dirs/real --seeds 0 1 2
    python .dev/real_pictures.py pdsl work_dirs/real --seeds 0 1 2
    python .dev/real_pictures.py voc work_dirs/real --seeds 0

SOURCE holds coco_sample, coco_val_captions, raccoon_sample and voc_sample: COCO's json with images,
and VOC's XML files. It is linked, not copied. A run that is finished is not run again. Training
is that of tools/train.py, except that frozen towers are computed once for all runs of a table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from projects.common.cli.run import build_runner, prepare

HEAD = 'configs/rvse/photos-head_selhn_1xb16-5e_own-pictures.py'
RACCOONS = 'configs/pdsl/pdsl_lite0_1xb4-200_raccoon.py'
VOC = 'configs/pdsl/pdsl_lite0_1xb4-200_voc12.py'
LOSSES = ('ITMTripletLoss', 'HardNegativeLoss', 'SelHNLoss')
TOWERS = {
    'model.backbone.frozen': False,
    'optim_wrapper.paramwise_cfg': dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
}
TEST_EVERY = 3  # a third of the raccoons is not trained on
RECALLS = [f'matching/{way}/r{k}' for way in ('t2i', 'i2t') for k in (1, 5, 10)]
MASKS = ['coco/bbox_mAP_50', 'coco/segm_mAP_50', 'weak/tag_map']
BOXES = ['coco/bbox_mAP_50', 'weak/corloc']


def link(images: dict[str, Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, path in images.items():
        (folder / name).symlink_to(path.resolve())


def captions(source: Path, split: str) -> Iterator[tuple[str, Path, list[str]]]:
    """Yield name, file and five captions of each COCO image of a split."""
    for part in ('coco_sample', 'coco_val_captions'):
        file = source / part / f'annotations/captions_{split}2017.json'
        content = json.loads(file.read_text()) if file.is_file() else dict(images=())
        for entry in content['images']:
            of_image = [a for a in content['annotations'] if a['image_id'] == entry['id']]
            path = source / part / f'{split}2017' / entry['file_name']
            yield entry['file_name'], path, [' '.join(a['caption'].split()) for a in of_image[:5]]


def make_data(source: Path, out: Path) -> None:
    """Make the folders that the configs read, with links to the images."""
    found: dict[str, Path] = {}
    for split, name in (('train', 'train.txt'), ('val', 'val.txt')):
        lines = []
        for file, path, texts in captions(source, split):
            found[file] = path
            lines += [f'{file}\t{text}' for text in texts]
        out.joinpath('captions').mkdir(parents=True, exist_ok=True)
        out.joinpath('captions', name).write_text('\n'.join(lines) + '\n')
    out.joinpath('captions/test.txt').write_text(out.joinpath('captions/val.txt').read_text())
    link(found, out / 'captions/images')

    raccoons, tags = out / 'raccoon', []
    images, annotations = [], []
    files = sorted((source / 'raccoon_sample/Annotations').glob('*.xml'), key=_number)
    link(
        {f'{f.stem}.jpg': f.parents[1] / f'images/{f.stem}.jpg' for f in files}, raccoons / 'images'
    )
    for file in files:
        if _number(file) % TEST_EVERY:
            tags.append(f'{file.stem}.jpg raccoon')
            continue
        tree = ElementTree.parse(file).getroot()
        width, height = (int(tree.findtext(f'size/{side}', '')) for side in ('width', 'height'))
        number = _number(file)
        images.append(dict(id=number, file_name=f'{file.stem}.jpg', width=width, height=height))
        for each in tree.findall('object/bndbox'):
            x1, y1, x2, y2 = (int(each.findtext(k, '')) for k in ('xmin', 'ymin', 'xmax', 'ymax'))
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=number, category_id=1, iscrowd=0,
                    bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1), segmentation=[],
                )
            )  # fmt: skip
    for file, path, _ in captions(source, 'train'):
        (raccoons / 'images' / file).symlink_to(path.resolve())
        tags.append(file)
    (raccoons / 'tags.txt').write_text('\n'.join(tags) + '\n')
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='raccoon')])
    (raccoons / 'instances_test.json').write_text(json.dumps(content))
    (out / 'voc').symlink_to(source / 'voc_sample')
    options = ['--max-proposals', '300', '--min-side', '16', '--max-side', '256']
    for folder, store in (
        (raccoons / 'images', raccoons / 'proposals'),
        (source / 'voc_sample/VOCdevkit/VOC2012/JPEGImages', out / 'voc_proposals'),
    ):
        run('tools/misc/generate_proposals.py', str(folder), str(store), *options)


def _number(file: Path) -> int:
    return int(file.stem.rpartition('-')[2])


def run(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)


class Recorder(Hook):
    """Keep the metrics of every validation."""

    def __init__(self) -> None:
        self.metrics: list[dict] = []

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self.metrics.append(metrics or {})


def train(config: str, work_dir: Path, seed: int, memory: dict, **changes: object) -> list[dict]:
    """Train as tools/train.py does; return the metrics of all validations."""
    kept = work_dir / 'metrics.json'
    if kept.is_file():
        return json.loads(kept.read_text())
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict({'randomness.seed': seed, **changes})
    prepare(cfg, config, 'none', str(work_dir))
    recorder = Recorder()
    runner = build_runner(cfg, hooks=[recorder])
    if hasattr(runner.model, 'class_names'):
        remember_towers(runner.model, memory)
    runner.train()
    kept.write_text(json.dumps(recorder.metrics))
    return recorder.metrics


def remember_towers(model: nn.Module, memory: dict[object, Tensor]) -> None:
    """Compute what frozen towers make of an image or a caption once for all runs."""
    encode_images, encode_captions = model.backbone.forward, model.text_encoder.forward

    def recall(keys: list, encode: Callable[[list[int]], Tensor]) -> Tensor:
        if new := [i for i, key in enumerate(keys) if key not in memory]:
            with torch.no_grad():
                memory.update(zip([keys[i] for i in new], encode(new)))
        return torch.stack([memory[key] for key in keys])

    def images(batch: Tensor) -> Tensor:
        keys = [image.numpy().tobytes() for image in batch]
        return recall(keys, lambda new: encode_images(batch[new]))

    def captions(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        keys = [tuple(row[:length].tolist()) for row, length in zip(ids, lengths)]
        return recall(keys, lambda new: encode_captions(ids[new], lengths[new])[0]), lengths

    if model.backbone.frozen:
        model.backbone.forward = images
    if model.text_encoder.frozen:
        model.text_encoder.forward = captions


def report(name: str, values: list[list[float]]) -> None:
    """Print mean and range of each metric over the seeds."""
    cells = [f'{np.mean(each):.1f} ({min(each):.1f}-{max(each):.1f})' for each in zip(*values)]
    print(f'| {name} |', ' | '.join(cells), '|', flush=True)


def compare(out: Path, seeds: list[int], kind: str, losses: Sequence[str], **changes) -> None:
    """Print recalls before and after training with each loss."""
    os.environ['OWN_ROOT'] = str(out / 'captions')
    memory: dict[object, Tensor] = {}
    for loss in losses:
        changes['model.loss'] = dict(_delete_=True, type=loss, margin=0.2)
        runs = [
            train(HEAD, out / f'runs/{kind}_{loss}_{seed}', seed, memory, **changes)
            for seed in seeds
        ]
        report('before', [[first[key] for key in RECALLS] for first, *_ in runs])
        report(f'{kind}, {loss}', [[last[key] for key in RECALLS] for *_, last in runs])


def locate(out: Path, seeds: list[int], config: str, keys: Sequence[str]) -> None:
    """Print the metrics of PDSL."""
    runs = [train(config, out / f'runs/{Path(config).stem}_{seed}', seed, {}) for seed in seeds]
    percent = {key: 100 if key.startswith('coco') else 1 for key in keys}
    report('PDSL', [[last[key] * percent[key] for key in keys] for *_, last in runs])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('table', choices=('data', 'rvse', 'towers', 'pdsl', 'voc'))
    parser.add_argument('folders', type=Path, nargs='+', help='SOURCE and OUT, or OUT')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    args = parser.parse_args()
    out = args.folders[-1].resolve()
    if args.table == 'data':
        make_data(args.folders[0].resolve(), out)
    elif args.table == 'rvse':
        compare(out, args.seeds, 'head', LOSSES)
    elif args.table == 'towers':
        compare(out, args.seeds, 'towers', LOSSES[-1:], **TOWERS)
    elif args.table == 'pdsl':
        os.environ['OWN_ROOT'] = str(out / 'raccoon')
        run('.dev/box_baselines.py', RACCOONS)
        locate(out, args.seeds, RACCOONS, BOXES)
    else:
        os.environ.update(DATA_ROOT=str(out / 'voc'), PDSL_PROPOSALS=str(out / 'voc_proposals'))
        locate(out, args.seeds, VOC, MASKS)


if __name__ == '__main__':
    main()
