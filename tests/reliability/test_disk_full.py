"""A full disk: a real one of 1 MB, in memory, mounted where one process alone sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
WRITERS = ('checkpoint', 'masks', 'embeddings', 'gallery', 'proposals', 'regions')


@pytest.mark.parametrize('name', WRITERS)
def test_what_was_there_stays(name: str, full_disk, tmp_path: Path) -> None:
    """8 kB are left, more is written: the old content is there, and no part of the new one."""
    problem = full_disk.on_small_disk(tmp_path / 'disk', getattr(full_disk, name))
    if problem is None:
        pytest.skip('no disk may be mounted here')
    assert not problem, problem


@pytest.mark.slow
def test_the_last_good_checkpoint_stays(toy_config, tmp_path: Path) -> None:
    """Training fills the disk in the third epoch, ends in one line, and goes on with more room."""
    config = toy_config(
        "model['width'] = 6000\n"  # a checkpoint of about 430 kB
        'default_hooks = dict(checkpoint=dict(save_best=None), logger=dict(interval=6))\n'
    )
    done = subprocess.run(
        [sys.executable, HERE / 'full_disk.py', tmp_path / 'disk', config],
        env={**os.environ, 'PYTHONPATH': f'{HERE.parents[1]}:{HERE.parent / "tools"}'},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip('no disk may be mounted here')
    assert done.returncode == 0, done.stderr[-3000:]
