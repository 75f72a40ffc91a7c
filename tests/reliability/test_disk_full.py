"""A full disk: a real one of 1 MB, in memory, mounted where this process alone sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def on_small_disk(script: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Runs a script of this folder; its first argument is the disk of 1 MB."""
    disk = folder / 'disk'
    disk.mkdir()
    # user and mount namespaces of its own: nobody needs to be root, nothing is left mounted
    inside = 'mount -t tmpfs -o size=1m tmpfs "$0" || exit 77; exec "$@"'
    command = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', inside, disk]
    command += [sys.executable, HERE / script, disk, *arguments]
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, 'PYTHONPATH': f'{HERE.parents[1]}:{HERE.parent}/tools'},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
    )
    if done.returncode == 77 or 'unshare' in done.stderr:
        pytest.skip(f'no mount namespace may be made here: {done.stderr.strip()[-200:]}')
    return done


def test_the_last_good_checkpoint_stays(toy_config, tmp_path: Path) -> None:
    """Training fills the disk in the third epoch, ends in one line, and goes on with more room."""
    config = toy_config(
        "model['width'] = 6000\n"  # a checkpoint of about 430 kB
        'default_hooks = dict(checkpoint=dict(save_best=None), logger=dict(interval=6))\n'
    )
    done = on_small_disk('full_disk.py', tmp_path, config)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == 'as if the disk had never been full'
    assert 'No space left on device' in done.stdout


def test_stores_keep_what_they_had(tmp_path: Path) -> None:
    done = on_small_disk('full_disk.py', tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ['masks', 'embeddings', 'gallery', 'proposals', 'regions']
