"""Trainings with ``randomness.deterministic=True``: two are equal, and so is a resumed one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from projects.common.cli.run import build_runner, prepare

from . import samples
from .report import Context, Finding, check

STEPS = 3


def train(project: str, folder: Path, context: Context, steps: int, resume: bool = False) -> dict:
    """Train for a few steps and return the state of model and optimizer."""
    loop = dict(type='IterBasedTrainLoop', max_iters=steps)
    cfg = samples.config(
        project,
        context.work_dir,
        **{
            'train_cfg': dict(_delete_=True, **loop),
            'randomness': dict(seed=0, deterministic=True),
            'default_hooks.checkpoint.by_epoch': False,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.save_best': None,
            'train_dataloader.sampler': dict(_delete_=True, type='InfiniteSampler', shuffle=True),
            'resume': resume,
            'log_level': 'ERROR',
            'log_processor.by_epoch': False,
        },
    )
    cfg.param_scheduler = []
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'LoadStoredProposals':
            step.max_proposals = 12  # deterministic pooling takes longer
    for part in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            cfg.pop(f'{part}_{key}', None)
    cfg.default_hooks.pop('visualization', None)
    cfg.default_hooks.pop('progress', None)
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks', ()) if 'Vocabulary' in h.type]
    cfg.experiment_name = f'{project}_{folder.name}_{steps}'
    with samples.quiet():
        prepare(cfg, project, 'none', str(folder))
        runner = build_runner(cfg)
        runner.train()
    return samples.weights(runner.model)


def repeated(project: str, context: Context) -> Iterator[Finding]:
    folder = context.work_dir / 'repeat' / project
    shutil.rmtree(folder, ignore_errors=True)
    first = train(project, folder / 'first', context, STEPS)
    second = train(project, folder / 'second', context, STEPS)
    yield Finding('two trainings are equal', _equal(first, second), True)
    train(project, folder / 'parts', context, STEPS - 1)
    resumed = train(project, folder / 'parts', context, STEPS, resume=True)
    advice = 'compare the states in the checkpoints of both runs: what is not restored?'
    yield Finding('a resumed one is equal', _equal(resumed, first), True, advice)


def _equal(found: dict, expected: dict) -> bool:
    return all(torch.equal(found[name], value) for name, value in expected.items())


for _project in samples.PROJECTS:
    check(
        f'deterministic/{_project}',
        'replace the operator that has no deterministic implementation, or report in one line that '
        'it has none; if two runs only differ, look for atomic additions in own kernels',
    )(partial(repeated, _project))
