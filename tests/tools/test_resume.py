"""A run that is killed and resumed ends with the weights of one that never stopped."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import torch

from projects.common.weights.checkpoint import load_checkpoint_file

# 24 samples of 20 ms: an epoch lasts half a second, a quarter with two workers.
SLOW = "train_dataloader['dataset']['seconds'] = 0.02\n"
PERSISTENT = SLOW + 'train_dataloader.update(num_workers=2, persistent_workers=True)\n'
ITERATIONS = (
    PERSISTENT
    + "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"
    + 'train_cfg = dict(by_epoch=False, max_iters=24, val_interval=5)\n'
    + 'log_processor = dict(by_epoch=False)\n'
    + 'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5, '
    + "save_best='toy/score', rule='greater'))\n"
)


def final(folder: Path) -> dict:
    named = Path((folder / 'last_checkpoint').read_text())
    assert named.name in ('epoch_4.pth', 'iter_24.pth')
    return load_checkpoint_file(folder / named.name)


def assert_same(a, b, where: str = '') -> None:
    """Bit for bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f'{where}.{i}')
    else:
        assert a == b, where


@pytest.mark.parametrize(
    'extra', [SLOW, PERSISTENT, ITERATIONS], ids=['epochs', 'workers', 'iterations']
)
def test_killed_and_resumed_equals_never_stopped(
    extra: str, toy_config, tool, tmp_path: Path
) -> None:
    config = toy_config(extra)
    straight = tool('train.py', config, '--work-dir', tmp_path / 'straight')
    assert straight.returncode == 0, straight.stderr

    broken = tmp_path / 'broken'
    running = tool.start('train.py', config, '--work-dir', broken)
    while not (broken / 'last_checkpoint').is_file():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.4))  # any moment: in a batch, in validation, in a save
    running.kill()
    running.communicate()
    assert not any((broken / name).exists() for name in ('epoch_4.pth', 'iter_24.pth'))
    resumed = tool('train.py', config, '--work-dir', broken, '--resume')
    assert resumed.returncode == 0, resumed.stderr
    assert 'resumed epoch' in resumed.stdout

    expected, found = final(tmp_path / 'straight'), final(broken)
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(expected[part], found[part], part)
    assert not list(broken.glob('.*.partial'))


@pytest.mark.slow
@pytest.mark.parametrize('turn', range(4))
def test_killed_again_and_again(turn: int, toy_config, tool, tmp_path: Path) -> None:
    config = toy_config(PERSISTENT)
    assert tool('train.py', config, '--work-dir', tmp_path / 'straight').returncode == 0
    broken = tmp_path / 'broken'
    for _ in range(4):
        running = tool.start('train.py', config, '--work-dir', broken, '--resume')
        time.sleep(random.uniform(3.0, 7.0))
        running.kill()
        running.communicate()
    assert tool('train.py', config, '--work-dir', broken, '--resume').returncode == 0
    assert_same(final(tmp_path / 'straight')['state_dict'], final(broken)['state_dict'])
