"""``make quickstart``: train a small PLVL to localize and segment objects named by sentences."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner, TestLoop

from projects.common.cli.run import build_runner, prepare
from projects.common.scenes import write_dataset

from .photos import write_photo_scenes
from .shared import (
    ValidationImageHook,
    all_samples,
    draw_kinds,
    load_quietly,
    print_results,
    versions,
    write_summary,
)

CONFIG = 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py'
SCENES = Path('work_dirs/quickstart/scenes')
PHOTO_CONFIG = 'configs/plvl/plvl_tiny-effnet_1xb16-2k_photo-scenes.py'
PHOTO_SCENES = Path('work_dirs/quickstart/photo_scenes')
IMAGES_PER_KIND = 4


def main(work_dir: Path, seed: int, photos: bool = False) -> dict:
    """Run the quick start and return the contents of ``<work_dir>/summary.json``.

    Args:
        work_dir: Output directory.
        seed: Seed of the training. The scenes are the same for all seeds.
        photos: Whether the scenes are of photographed things instead of generated shapes. The test
            scenes then show things that training has not, and others show those that it has.
    """
    config, scenes = (PHOTO_CONFIG, PHOTO_SCENES) if photos else (CONFIG, SCENES)
    print(f'1/4  Scenes: images with sentences, in {scenes}', flush=True)
    if photos:
        write_photo_scenes(scenes, num_train=4000, num_val=100, num_test=300, num_test_seen=300)
    else:
        write_dataset(scenes, num_train=8000, num_val=100, num_test=500, image_size=128, workers=2)

    print(f'2/4  Training: {config}, seed {seed}', flush=True)
    # A second thread would double the CPU time of such small products and save nothing; the worker
    # that loads the images uses the other core.
    torch.set_num_threads(1)
    cfg = load_quietly(config, seed)
    prepare(cfg, config, launcher='none', work_dir=str(work_dir))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(scenes)
    runner = build_runner(cfg, hooks=[ValidationImageHook()])
    start = time.time()
    runner.train()
    train_seconds = time.time() - start

    what = '300 scenes of things' if photos else '500 scenes'
    print(f'3/4  Testing on {what} that it has not seen', flush=True)
    start = time.time()
    metrics = runner.test()
    test_seconds = time.time() - start
    print('     and once more, each sentence replaced by one about another object', flush=True)
    other = _test_again(runner, cfg, sentence_shuffle='other_object')
    seen = {}
    if photos:
        print('     and on 300 scenes of things that it has seen', flush=True)
        found = _test_again(runner, cfg, split='test_seen')
        names = ('rec_acc50', 'res_miou', 'res_oiou')
        seen = {f'{name}_seen': found[f'grounding/{name}'] for name in names}

    print('4/4  Images', flush=True)
    samples = all_samples(runner)
    kinds = sorted({sample['kind'] for sample in samples})
    pictures = draw_kinds(runner, samples, kinds, IMAGES_PER_KIND, work_dir / 'pictures')
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
        **seen,
        train_seconds=train_seconds,
        test_seconds=test_seconds,
        images=len({sample['img_path'] for sample in samples}),
        sentences=len(samples),
        seed=seed,
        versions=versions(),
    )
    path = work_dir / 'summary.json'
    summary = write_summary(path, summary)
    _print_table(summary, path, pictures)
    return summary


def _test_again(runner: Runner, cfg: Config, **changes: str) -> dict:
    """Test with changes to the data set: another split, or sentences about another object.

    Whoever reads the sentences must fail with the latter.
    """
    loader = deepcopy(cfg.test_dataloader)
    loader.dataset.update(changes)
    return TestLoop(runner, loader, cfg.test_evaluator).run()


def _print_table(summary: dict, path: Path, pictures: list[Path]) -> None:
    rows = [('REC accuracy (IoU >= 0.5)', summary['rec_acc50'])]
    rows += [(f'    {kind} sentences', v) for kind, v in summary['rec_acc50_by_kind'].items()]
    rows += [
        ('    with a sentence about another object', summary['rec_acc50_other_sentence']),
        ('RES mean IoU', summary['res_miou']),
        ('RES overall IoU', summary['res_oiou']),
    ]
    if 'rec_acc50_seen' in summary:
        rows += [
            ('things seen in training: REC accuracy', summary['rec_acc50_seen']),
            ('    RES mean IoU', summary['res_miou_seen']),
        ]
    print_results(
        f'{summary["images"]} unseen scenes, {summary["sentences"]} sentences',
        rows,
        summary,
    )
    print(f'\nsummary:  {path}')
    print(f'images: {len(pictures)} in {pictures[-1].parent}; begin with {pictures[-1].name}')
