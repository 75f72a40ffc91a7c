"""Schedules end with training, are checked, and are not undone by resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

import projects.common.register  # noqa: F401
from projects.common.optim.schedules import schedule_problems

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def build(cfgs: list[dict], end: int, length: int = 5) -> tuple[torch.optim.Optimizer, list]:
    """Schedulers as MMEngine's runner builds them: `end` is that of training where left out."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    built = []
    for cfg in cfgs:
        cfg = dict(cfg)
        cfg.setdefault('end', end if cfg.get('by_epoch', True) else end * length)
        args = dict(optimizer=optimizer, epoch_length=length)
        built.append(PARAM_SCHEDULERS.build(cfg, default_args=args))
    return optimizer, built


@pytest.mark.parametrize('epochs', [1, 2, 3, 20, 150])
@pytest.mark.filterwarnings('ignore:Detected call')
def test_the_released_decay(epochs: int) -> None:
    """(1 - e/E)^0.9 in epoch e, also from a config whose number of epochs is changed."""
    base = Config.fromfile(ROOT / 'configs/_base_/schedules/plvl_150e.py')
    optimizer, (scheduler,) = build(base.param_scheduler, epochs)
    for epoch in range(epochs):
        expected = (1 - epoch / epochs) ** 0.9
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, abs=1e-12)
        assert expected > 0
        scheduler.step()


@pytest.mark.filterwarnings('ignore:Detected call')
def test_figures_of_the_released_code() -> None:
    optimizer, (scheduler,) = build([dict(type='PolynomialLR', power=0.9)], 150)
    rates = []
    for _ in range(150):
        rates.append(optimizer.param_groups[0]['lr'])
        scheduler.step()
    assert rates[75] == pytest.approx(0.535887, abs=1e-6)
    assert rates[149] == pytest.approx(0.0110032, abs=1e-7)
    # PyTorch's own scheduler of this name
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=150, power=0.9)
    for rate in rates:
        assert optimizer.param_groups[0]['lr'] == pytest.approx(rate, abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.filterwarnings('ignore:Detected call')
def test_by_iterations_and_after_a_warm_up() -> None:
    cfg = dict(type='PolynomialLR', power=2, begin=1, convert_to_iter_based=True)
    optimizer, (scheduler,) = build([cfg], 3, length=4)
    assert (scheduler.begin, scheduler.end) == (4, 12)
    for step in range(12):
        expected = (1 - max(step - 4, 0) / 8) ** 2
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, abs=1e-12)
        scheduler.step()


WARM_UP = dict(type='LinearLR', start_factor=0.01, end=20, by_epoch=False)


@pytest.mark.parametrize(
    'cfgs',
    [
        [dict(type='PolynomialLR', power=0.9)],
        [dict(type='PolynomialLR', power=0.9, end=10)],
        [WARM_UP, dict(type='CosineAnnealingLR', convert_to_iter_based=True)],
        [dict(type='CosineAnnealingLR', T_max=10, end=10)],
        [dict(type='CosineAnnealingLR', begin=5, T_max=5)],
        [dict(type='MultiStepLR', milestones=[5, 9])],
        [dict(type='MultiStepLR', milestones=[5, 9], end=1000)],
        [dict(type='StepLR', step_size=3), WARM_UP],
        [WARM_UP],  # constant afterwards
        [dict(type='ConstantLR', factor=1.0)],
        [dict(type='PolyLR', power=0.9, end=5), dict(type='PolyLR', power=0.9, begin=5, eta_min=1)],
        [dict(type='PolyLR', power=0.9, eta_min=1e-3)],
    ],
)
def test_schedules_that_go_with_training(cfgs) -> None:
    _, built = build(cfgs, 10)
    assert schedule_problems(built, 10, 50, counts_epochs=True) == []


@pytest.mark.parametrize(
    ('cfg', 'words'),
    [
        (
            dict(type='PolynomialLR', power=0.9, end=150),
            ('param_scheduler.0.end: 150, after the 10 epochs', 'train_cfg.max_epochs'),
        ),
        (dict(type='PolynomialLR', power=0.9, end=4), ('param_scheduler.0.end: 4, before',)),
        (dict(type='CosineAnnealingLR', T_max=150, end=150), ('end: 150, after',)),
        (dict(type='CosineAnnealingLR', T_max=5), ('param_scheduler.0.T_max: 5', '10 steps')),
        (dict(type='CosineAnnealingLR', end=5), ('end: 5, before',)),
        (dict(type='MultiStepLR', milestones=[5, 10]), ('milestones: 10, which is never reached',)),
        (dict(type='MultiStepLR', milestones=[5, 9], end=8), ('milestones: 9, which is never',)),
        (dict(WARM_UP, end=60), ('end: 60, after the 50 iterations',)),
        (dict(type='PolyLR', power=0.9), ('last epoch has a learning rate of 0', 'PolynomialLR')),
        (dict(type='LinearLR', start_factor=1.0, end_factor=0.0), ('learning rate of 0',)),
    ],
)
def test_schedules_that_do_not(cfg, words) -> None:
    _, built = build([cfg], 10)
    problems = schedule_problems(built, 10, 50, counts_epochs=True)
    assert len(problems) >= 1
    for word in words:
        assert word in problems[0]


def test_epochs_where_training_counts_iterations() -> None:
    _, built = build([dict(type='MultiStepLR', milestones=[5])], 10)
    (problem,) = schedule_problems(built, 1, 50, counts_epochs=False)
    assert 'param_scheduler.0 counts epochs' in problem


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_decays_to_the_end_of_its_training(path: Path) -> None:
    """Where training gets longer, the schedule moves with it or is refused."""
    cfg = Config.fromfile(path)
    if 'train_cfg' not in cfg:  # a model that is used without training
        assert 'param_scheduler' not in cfg
        return
    counts_epochs = 'max_epochs' in cfg.train_cfg
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, list) else [schedulers]
    length = 1000 if counts_epochs else 1  # batches of an epoch, more than any warm-up has
    end = cfg.train_cfg.max_epochs if counts_epochs else cfg.train_cfg.max_iters
    _, built = build(schedulers, end, length)
    assert schedule_problems(built, end, end * length, counts_epochs) == []
    _, longer = build(schedulers, 2 * end, length)
    if not schedule_problems(longer, 2 * end, 2 * end * length, counts_epochs):
        for before, after in zip(built, longer):
            if hasattr(after, 'T_max') or hasattr(after, 'power'):
                assert after.end == 2 * before.end
