"""SIGKILL at random moments of training, caching and writing: nothing is lost and nothing half."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CONFIG = """
train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
train_cfg = dict(by_epoch=False, max_iters=24, val_interval=3)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=1, save_best='toy/score', rule='greater'))
"""
CACHES = ('masks', 'embeddings', 'gallery', 'proposals')


@pytest.mark.parametrize('kind', CACHES)
def test_a_few_kills(kind: str, kill_loop, tmp_path: Path) -> None:
    """Every victim leaves what is whole, and the one that ends what a straight run leaves."""
    random.seed(0)
    found = kill_loop.kill(kind, tmp_path, kills=5)
    assert found['killed'] == 5 and found['ended'] >= 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('kind', ['training', *CACHES])
def test_many_kills(kind: str, toy_config, tmp_path: Path) -> None:
    """As above; ``KILLS`` and ``KILL_SEED`` in the environment make it longer and another one."""
    kills, seed = os.environ.get('KILLS', '100'), os.environ.get('KILL_SEED', '1')
    # a process of its own: one that has trained cannot fork another that trains
    done = subprocess.run(
        [sys.executable, HERE / 'kill_loop.py', kind, tmp_path, kills, seed, toy_config(CONFIG)],
        env={**os.environ, 'PYTHONPATH': f'{HERE.parents[1]}:{HERE.parent / "tools"}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = [json.loads(line) for line in done.stdout.splitlines()]
    print(json.dumps(dict(found, seed=seed)))
    assert found['killed'] == int(kills)
