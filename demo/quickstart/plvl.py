"""``make quickstart``: train a small PLVL to localize and segment objects named by sentences."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner, TestLoop

from projects.common.cli.run import build_runner, prepare
from projects.common.scenes import write_dataset
from projects.common.visualization import tile

from .shared import (
    ValidationImageHook,
    load_quietly,
    predict_one,
    print_results,
    save_images,
    versions,
    write_summary,
)

CONFIG = 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py'
SCENES = Path('work_dirs/quickstart/scenes')
IMAGES_PER_KIND = 4


def main(work_dir: Path, seed: int) -> dict:
    """Run the quick start and return the contents of ``<work_dir>/summary.json``.

    Args:
        work_dir: Output directory.
        seed: Seed of the training. The scenes are the same for all seeds.
    """
    print(f'1/4  Scenes: images with sentences, in {SCENES}', flush=True)
    write_dataset(SCENES, num_train=8000, num_val=100, num_test=500, image_size=128, workers=2)

    print(f'2/4  Training: {CONFIG}, seed {seed}', flush=True)
    # A second thread would double the CPU time of such small products and save nothing; the worker
    # that loads the images uses the other core.
    torch.set_num_threads(1)
    cfg = load_quietly(CONFIG, seed)
    prepare(cfg, CONFIG, launcher='none', work_dir=str(work_dir))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(SCENES)
    runner = build_runner(cfg, hooks=[ValidationImageHook()])
    start = time.time()
    runner.train()
    train_seconds = time.time() - start

    print('3/4  Testing on 500 scenes that it has not seen', flush=True)
    start = time.time()
    metrics = runner.test()
    test_seconds = time.time() - start
    print('     and once more, each sentence replaced by one about another object', flush=True)
    other = _test_other_sentences(runner, cfg)

    print('4/4  Images', flush=True)
    pictures = _draw(runner, work_dir / 'pictures')
    summary = dict(
        rec_acc50=metrics['grounding/rec_acc50'],
        rec_acc50_by_kind={
            key.split('/')[-1]: value
            for key, value in metrics.items()
            if key.startswith('grounding/rec_acc50/')
        },
        rec_acc50_other_sentence=other['grounding/rec_acc50'],
        res_miou=metrics['grounding/res_miou'],
        res_oiou=metrics['grounding/res_oiou'],
        train_seconds=train_seconds,
        test_seconds=test_seconds,
        images=len({sample['img_path'] for sample in _samples(runner)}),
        sentences=len(runner.test_dataloader.dataset),
        seed=seed,
        versions=versions(),
    )
    path = work_dir / 'summary.json'
    summary = write_summary(path, summary)
    _print_table(summary, path, pictures)
    return summary


def _samples(runner: Runner) -> list[dict]:
    dataset = runner.test_dataloader.dataset
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def _test_other_sentences(runner: Runner, cfg: Config) -> dict:
    """Test with each sentence replaced by one about another object, which readers must fail."""
    loader = deepcopy(cfg.test_dataloader)
    loader.dataset.sentence_shuffle = 'other_object'
    return TestLoop(runner, loader, cfg.test_evaluator).run()


@torch.no_grad()
def _draw(runner: Runner, folder: Path) -> list[Path]:
    """Draw the first samples of every kind, one per image, and a sheet with one of each kind."""
    chosen: dict[str, list[int]] = {}
    seen = set()
    for i, sample in enumerate(_samples(runner)):
        of_kind = chosen.setdefault(sample['kind'], [])
        if len(of_kind) < IMAGES_PER_KIND and sample['img_path'] not in seen:
            of_kind.append(i)
            seen.add(sample['img_path'])
    runner.model.eval()
    pictures: dict[str, np.ndarray] = {}
    sheet = []
    for kind in sorted(chosen):
        for i in chosen[kind]:
            sample, image = predict_one(runner, i)
            name = f'{kind}_{len(pictures):02d}_{Path(sample.img_path).stem}'
            pictures[name] = runner.visualizer.draw(image, sample)
            if i == chosen[kind][0]:
                sheet.append(pictures[name])
    return save_images(folder, pictures, tile(sheet))


def _print_table(summary: dict, path: Path, pictures: list[Path]) -> None:
    rows = [('REC accuracy (IoU >= 0.5)', summary['rec_acc50'])]
    rows += [(f'    {kind} sentences', v) for kind, v in summary['rec_acc50_by_kind'].items()]
    rows += [
        ('    with a sentence about another object', summary['rec_acc50_other_sentence']),
        ('RES mean IoU', summary['res_miou']),
        ('RES overall IoU', summary['res_oiou']),
    ]
    print_results(
        f'{summary["images"]} unseen scenes, {summary["sentences"]} sentences',
        rows,
        summary,
    )
    print(f'\nsummary:  {path}')
    print(f'images: {len(pictures)} in {pictures[-1].parent}; begin with {pictures[-1].name}')
