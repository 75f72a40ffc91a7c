"""A disk of 1 MB in memory, and what is written there until it is full.

Run by test_disk_full.py: ``full_disk.py DISK CONFIG`` trains. The caches are filled in a fork of
the tests' process.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from projects.common.cli.report import user_message
from projects.common.hooks.checkpoint_hook import find_resumable
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.common.weights.convert import write_checkpoint
from projects.pdsl.cues.store import MaskStore
from projects.pdsl.proposals import ProposalStore, write_store
from projects.rvse.datasets import RegionStore
from projects.rvse.datasets.regions import write_regions
from projects.rvse.retrieval import EmbeddingCache, open_store

ROOT = Path(__file__).resolve().parents[2]


CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def on_small_disk(disk: Path, work: Callable[[Path], None]) -> str | None:
    """Lets a fork work on a tmpfs of 1 MB that it alone sees; nobody needs to be root.

    Returns:
        What went wrong; empty if nothing; None where such a disk cannot be had.
    """
    disk.mkdir(parents=True, exist_ok=True)
    user, group = os.getuid(), os.getgid()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 77
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if not libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
                Path('/proc/self/setgroups').write_text('deny')
                Path('/proc/self/uid_map').write_text(f'0 {user} 1')
                Path('/proc/self/gid_map').write_text(f'0 {group} 1')
                if not libc.mount(b'tmpfs', os.fsencode(disk), b'tmpfs', 0, b'size=1m'):
                    code = 1
                    work(disk)
                    code = 0
        except BaseException:
            os.write(writing, traceback.format_exc()[-3000:].encode())
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == 77 else said or ('' if code == 0 else f'exit code {code}')


def train(config: str, work_dir: Path, *options: str) -> subprocess.CompletedProcess:
    """tools/train.py, in a process of its own."""
    command = [sys.executable, str(ROOT / 'tools/train.py'), config, '--work-dir', str(work_dir)]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def training(disk: Path, config: str) -> None:
    """Fills the disk in the third epoch, and goes on with more room."""
    work = disk / 'work'
    full = train(config, work)
    assert full.returncode == 1, full.stderr[-2000:]
    (line,) = [line for line in full.stderr.splitlines() if line.startswith('error:')]
    assert line.endswith('.pth: No space left on device'), line
    assert 'Traceback' not in full.stderr
    newest = find_resumable(work)
    assert newest is not None and Path(newest).name == 'epoch_2.pth', newest
    load_checkpoint_file(newest)
    assert not list(work.glob('.*partial'))

    subprocess.run(['mount', '-o', 'remount,size=20m', str(disk)], check=True)
    resumed = train(config, work, '--resume')
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    straight = train(config, disk / 'straight')
    assert straight.returncode == 0, straight.stderr[-2000:]
    a, b = (load_checkpoint_file(disk / name / 'epoch_4.pth') for name in ('work', 'straight'))
    assert all(torch.equal(a['state_dict'][key], b['state_dict'][key]) for key in b['state_dict'])


def fails(write: Callable[[], object]) -> None:
    """The disk is full while ``write`` writes; what the user sees of it is one line."""
    try:
        write()
    except (OSError, sqlite3.OperationalError, ValueError, RuntimeError) as error:
        message = user_message(error) or str(error)
        assert 'No space left' in message or 'disk is full' in message or 'write' in message, (
            message
        )
    else:
        raise AssertionError('it was written')


def fill(disk: Path, leave: int = 8192) -> Path:
    """A file that leaves so many bytes on the disk."""
    path = disk / 'filling'
    free = os.statvfs(disk)
    path.write_bytes(bytes(max(free.f_bavail * free.f_frsize - leave, 0)))
    return path


def masks(disk: Path) -> None:
    rng = np.random.default_rng(0)
    masks = MaskStore(disk / 'masks', 'x')
    mask = rng.random((80, 80)) < 0.5
    masks.add('ab', {(0, 0, 1, 1): mask})
    filling = fill(disk)
    fails(lambda: masks.add('ab', {(i, 0, 1, 1): rng.random((200, 200)) < 0.5 for i in range(9)}))
    found = MaskStore(disk / 'masks', 'x').read('ab', [(0, 0, 1, 1)])
    assert np.array_equal(found[(0, 0, 1, 1)], mask)
    filling.unlink()


def embeddings(disk: Path) -> None:
    cache = EmbeddingCache(disk / 'cache', 'x')
    cache.put([cache.key(b'a')], np.ones((1, 256), np.float32))
    filling = fill(disk)
    keys = [cache.key(f'{i}'.encode()) for i in range(60)]
    fails(lambda: cache.put(keys, np.ones((60, 256), np.float32)))
    cache.close()
    cache = EmbeddingCache(disk / 'cache', 'x')
    assert len(cache) == 1 and np.array_equal(cache.get(cache.key(b'a')), np.ones(256))
    filling.unlink()
    cache.put(keys, np.ones((60, 256), np.float32))
    assert len(cache) == 61
    cache.close()


def gallery(disk: Path) -> None:
    rng = np.random.default_rng(0)
    with open_store(disk / 'gallery', 'x') as store:
        store.add(['a'], np.eye(1, 256, dtype=np.float32))
        store.save()
    filling = fill(disk)
    with open_store(disk / 'gallery', 'x') as store:
        store.add([str(i) for i in range(60)], rng.random((60, 256), dtype=np.float32))
        fails(store.save)
    with open_store(disk / 'gallery', 'x') as store:
        assert [hit.name for hit in store.search(np.eye(1, 256, dtype=np.float32), 9)[0]] == ['a']
    filling.unlink()


def proposals(disk: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = rng.random((4000, 2, 2)).astype(np.float32).cumsum(1).reshape(-1, 4) * 1000
    filling = fill(disk)
    fails(lambda: write_store(disk / 'proposals', [('a', boxes, None)]))
    assert not (disk / 'proposals/index.json').exists()  # none is better than half of one
    filling.unlink()
    write_store(disk / 'proposals', [('a', boxes, None)])
    assert len(ProposalStore(disk / 'proposals')) == 1


def regions(disk: Path) -> None:
    path = str(disk / 'x_ims.npy')
    write_regions(path, [np.ones((2, 8), np.float32)])
    filling = fill(disk)
    fails(lambda: write_regions(path, [np.zeros((2000, 8), np.float32)]))
    assert RegionStore(path)[0].shape == (2, 8)
    filling.unlink()


def checkpoint(disk: Path) -> None:
    path = disk / 'epoch_1.pth'
    write_checkpoint(path, {'state_dict': {'w': torch.ones(9)}})
    filling = fill(disk)
    fails(lambda: write_checkpoint(path, {'state_dict': {'w': torch.zeros(9000)}}))
    assert torch.equal(load_checkpoint_file(path)['state_dict']['w'], torch.ones(9))
    assert sorted(disk.iterdir()) == [path, filling]


if __name__ == '__main__':
    found = on_small_disk(Path(sys.argv[1]), lambda disk: training(disk, sys.argv[2]))
    print(found, file=sys.stderr)
    sys.exit(77 if found is None else int(bool(found)))
