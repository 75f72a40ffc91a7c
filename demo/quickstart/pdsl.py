"""``make quickstart PROJECT=pdsl``: train a small PDSL from tags to detect and segment shapes."""

from __future__ import annotations

import os
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner, TestLoop

from projects.common.cli.run import build_runner, prepare
from projects.common.hooks.progress import progress_bar
from projects.common.scenes import write_dataset
from projects.common.visualization import tile
from projects.pdsl.proposals import generate_proposals
from projects.pdsl.proposals.images import list_images

from .photos import write_photo_scenes
from .shared import (
    ValidationImageHook,
    load_quietly,
    predict_one,
    print_results,
    save_images,
    versions,
    write_summary,
)

CONFIG = 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py'
SCENES = Path('work_dirs/quickstart/pdsl_scenes')
PHOTO_CONFIG = 'configs/pdsl/pdsl_tiny-effnet_1xb4-600_photo-scenes.py'
PHOTO_SCENES = Path('work_dirs/quickstart/pdsl_photo_scenes')
IMAGES = 12
SCORE_THR = 0.25  # least score of the instances to draw


def main(work_dir: Path, seed: int, photos: bool = False) -> dict:
    """Run the whole quick start and return the content of ``<work_dir>/summary.json``.

    Args:
        work_dir: Folder of the results.
        seed: Seed of the training; the scenes are the same for all seeds.
        photos: Whether the scenes are of photographed things instead of generated shapes. The test
            scenes then show things that training has not, and others show those that it has.
    """
    config, scenes = (PHOTO_CONFIG, PHOTO_SCENES) if photos else (CONFIG, SCENES)
    print(f'1/5  Scenes: images with tags, in {scenes}', flush=True)
    if photos:
        write_photo_scenes(scenes, num_train=1000, num_val=50, num_test=200, num_test_seen=200)
    else:
        write_dataset(scenes, num_train=1000, num_val=50, num_test=200, image_size=128, workers=2)
    print('     and proposals: Selective Search, up to 250 of each image', flush=True)
    pictures = list_images(scenes / 'images')
    with progress_bar(len(pictures), 'proposals', 'image') as bar:
        generate_proposals(
            pictures,
            scenes / 'proposals',
            max_proposals=250,
            min_side=8,
            workers=2,
            on_image=bar.update,
        )

    print(f'2/5  Training on tags alone: {config}, seed {seed}', flush=True)
    os.environ['SCENES_ROOT'] = str(scenes)
    cfg = load_quietly(config, seed)
    prepare(cfg, config, launcher='none', work_dir=str(work_dir))
    runner = build_runner(cfg, hooks=[ValidationImageHook()])
    start = time.time()
    runner.train()
    train_seconds = time.time() - start

    what = ' of things' if photos else ''
    print(f'3/5  Testing on 200 scenes{what} that it has not seen', flush=True)
    start = time.time()
    metrics = runner.test()
    test_seconds = time.time() - start
    images = len(runner.test_dataloader.dataset)
    seen = {}
    if photos:
        print('     and on 200 scenes of things that it has seen', flush=True)
        found = _test_again(runner, cfg, 'test_seen', cfg.test_evaluator)
        seen = dict(
            box_ap50_seen=100 * found['coco/bbox_mAP_50'],
            mask_ap50_seen=100 * found['coco/segm_mAP_50'],
            tag_map_seen=found['weak/tag_map'],
        )
    print('4/5  Images', flush=True)
    drawn = _draw(runner, work_dir / 'pictures')
    print('5/5  CorLoc: boxes on the 1,000 scenes that it learnt from', flush=True)
    corloc = _test_again(runner, cfg, 'train', [dict(type='CorLocMetric')])
    summary = dict(
        box_ap50=100 * metrics['coco/bbox_mAP_50'],
        mask_ap25=100 * metrics['coco/segm_mAP_25'],
        mask_ap50=100 * metrics['coco/segm_mAP_50'],
        mask_ap70=100 * metrics['coco/segm_mAP_70'],
        mask_ap75=100 * metrics['coco/segm_mAP_75'],
        corloc=corloc['weak/corloc'],
        tag_map=metrics['weak/tag_map'],
        **seen,
        train_seconds=train_seconds,
        test_seconds=test_seconds,
        images=images,
        seed=seed,
        versions=versions(),
    )
    path = work_dir / 'summary.json'
    summary = write_summary(path, summary)
    _print_table(summary, path, drawn)
    return summary


def _test_again(runner: Runner, cfg: Config, split: str, evaluator: list) -> dict:
    """Test on another split. The boxes of the training scenes are read only here, for CorLoc."""
    loader = deepcopy(cfg.test_dataloader)
    loader.dataset.ann_file = f'annotations/instances_{split}.json'
    loop, before = TestLoop(runner, loader, evaluator), runner._test_loop
    runner._test_loop = loop  # hooks read the number of images from the loop
    metrics = loop.run()
    runner._test_loop = before
    return metrics


@torch.no_grad()
def _draw(runner: Runner, folder: Path) -> list[Path]:
    """Draw detections next to the ground truth, one file per image and a sheet of all."""
    dataset = runner.test_dataloader.dataset
    runner.model.eval()
    pictures = {}
    for i in np.linspace(0, len(dataset), IMAGES, endpoint=False).astype(int):
        sample, image = predict_one(runner, int(i))
        drawn = runner.visualizer.draw(image, sample, pred_score_thr=SCORE_THR)
        pictures[Path(sample.img_path).stem] = drawn
    return save_images(folder, pictures, tile(list(pictures.values()), columns=2))


def _print_table(summary: dict, path: Path, pictures: list[Path]) -> None:
    rows = [
        ('box AP50', summary['box_ap50']),
        ('mask AP25', summary['mask_ap25']),
        ('mask AP50', summary['mask_ap50']),
        ('mask AP70', summary['mask_ap70']),
        ('mask AP75', summary['mask_ap75']),
        ('tags of the image, mAP', summary['tag_map']),
        ('CorLoc on the training scenes', summary['corloc']),
    ]
    if 'box_ap50_seen' in summary:
        rows += [
            ('things seen in training: box AP50', summary['box_ap50_seen']),
            ('    mask AP50', summary['mask_ap50_seen']),
            ('    tags of the image, mAP', summary['tag_map_seen']),
        ]
    print_results(f'{summary["images"]} unseen scenes', rows, summary)
    print(f'\nsummary:  {path}')
    print(
        f'images: {len(pictures)} in {pictures[-1].parent}, truth on the left and found on the '
        f'right; begin with {pictures[-1].name}'
    )
