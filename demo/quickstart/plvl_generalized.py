"""``make quickstart DATA=generalized``: a small PLVL that finds none, one or several objects."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from projects.common.cli.run import build_runner, prepare
from projects.common.scenes import SET_KINDS, write_dataset

from .shared import (
    ValidationImageHook,
    all_samples,
    draw_kinds,
    load_quietly,
    print_results,
    versions,
    write_summary,
)

CONFIG = 'configs/plvl/plvl_tiny_1xb16-3k_generalized-scenes.py'
SCENES = Path('work_dirs/quickstart/generalized_scenes')
IMAGES_PER_KIND = 4


def main(work_dir: Path, seed: int) -> dict:
    """Run the quick start and return the contents of ``<work_dir>/summary.json``.

    Args:
        work_dir: Output directory.
        seed: Seed of the training. The scenes are the same for all seeds, and their images are
            those of the quick start without ``DATA``.
    """
    print(f'1/4  Scenes: images with sentences, in {SCENES}', flush=True)
    write_dataset(
        SCENES,
        num_train=8000,
        num_val=100,
        num_test=500,
        image_size=128,
        workers=2,
        generalized=True,
    )
    print(f'2/4  Training: {CONFIG}, seed {seed}', flush=True)
    torch.set_num_threads(1)  # as in the quick start of PLVL
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
    metrics = {key.removeprefix('grounding/'): v for key, v in runner.test().items()}
    test_seconds = time.time() - start

    print('4/4  Images', flush=True)
    samples = all_samples(runner)
    pictures = draw_kinds(runner, samples, SET_KINDS, IMAGES_PER_KIND, work_dir / 'pictures')
    summary = dict(
        metrics=metrics,
        train_seconds=train_seconds,
        test_seconds=test_seconds,
        images=len({sample['img_path'] for sample in samples}),
        sentences=len(samples),
        no_target_sentences=sum(not sample['instances'] for sample in samples),
        seed=seed,
        versions=versions(),
    )
    path = work_dir / 'summary.json'
    summary = write_summary(path, summary)
    _print_table(summary, path, pictures)
    return summary


def _print_table(summary: dict, path: Path, pictures: list[Path]) -> None:
    metrics = summary['metrics']
    rows = [
        ('GRES gIoU', metrics['gres_giou']),
        ('     cIoU', metrics['gres_ciou']),
        ('     N-acc: says that nothing fits where nothing does', metrics['gres_n_acc']),
        ('     T-acc: finds something where there is something', metrics['gres_t_acc']),
        ('GREC Pr@(F1=1, IoU >= 0.5)', metrics['grec_pr50']),
    ]
    for kind in SET_KINDS:
        if (key := f'grec_pr50/{kind}') in metrics:
            rows.append((f'     {kind} sentences', metrics[key]))
    rows.append(('     N-acc', metrics['grec_n_acc']))
    print_results(
        f'{summary["images"]} unseen scenes, {summary["sentences"]} sentences, '
        f'{summary["no_target_sentences"]} of them about nothing in the image',
        rows,
        summary,
    )
    print(f'\nsummary:  {path}')
    print(f'images: {len(pictures)} in {pictures[-1].parent}; begin with {pictures[-1].name}')
