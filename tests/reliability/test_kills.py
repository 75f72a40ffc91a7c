"""SIGKILL at random moments of training, caching and writing: nothing is lost and nothing half."""

from __future__ import annotations

import json
import os
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
KINDS = ('training', 'masks', 'embeddings', 'gallery', 'proposals')


def kill(kinds: str, folder: Path, kills: int, seed: int, config: Path) -> list[dict]:
    arguments = map(str, (kinds, folder, kills, seed, config))
    done = subprocess.run(
        [sys.executable, HERE / 'kill_loop.py', *arguments],
        env={**os.environ, 'PYTHONPATH': f'{HERE.parents[1]}:{HERE.parent / "tools"}'},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_few_kills(toy_config, tmp_path: Path) -> None:
    """Every victim leaves what is whole, and the one that ends what a straight run leaves."""
    found = kill(','.join(KINDS), tmp_path, 3, 0, toy_config(CONFIG))
    assert [row['kind'] for row in found] == list(KINDS)
    assert all(row['killed'] == 3 and row['ended'] >= 1 for row in found)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('kind', KINDS)
def test_many_kills(kind: str, toy_config, tmp_path: Path) -> None:
    """As above; ``KILLS`` and ``KILL_SEED`` in the environment make it longer and another one."""
    kills, seed = int(os.environ.get('KILLS', 100)), int(os.environ.get('KILL_SEED', 1))
    (found,) = kill(kind, tmp_path, kills, seed, toy_config(CONFIG))
    print(json.dumps(dict(found, seed=seed)))
    assert found['killed'] == kills
