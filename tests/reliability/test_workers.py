"""Processes that are killed while others wait for them: an error of one line, never a hang."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path

import pytest

from projects.common.cli.report import user_message
from projects.common.errors import InputError
from projects.common.hooks.checkpoint_hook import find_resumable
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.pdsl.proposals import map_unordered


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [
        int(child)
        for task in Path(f'/proc/{pid}/task').iterdir()
        for child in (task / 'children').read_text().split()
    ]


def test_a_killed_data_loading_worker_ends_the_run(toy_config, tool, tmp_path: Path) -> None:
    extra = "train_dataloader['dataset']['seconds'] = 0.02\n"
    extra += 'train_dataloader.update(num_workers=2, persistent_workers=True)\n'
    running = tool.start('train.py', toy_config(extra), '--work-dir', tmp_path / 'work')
    while not (tmp_path / 'work/last_checkpoint').is_file():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)
    workers = children(running.pid)
    assert len(workers) >= 2
    os.kill(workers[0], signal.SIGKILL)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1
    assert 'Traceback' not in err, err
    (line,) = [line for line in err.splitlines() if 'error:' in line]
    assert 'DataLoader worker (pid' in line and 'num_workers' in line and '--resume' in line
    load_checkpoint_file(find_resumable(tmp_path / 'work'))  # what was saved is whole


def test_a_killed_process_of_a_pool_ends_the_command() -> None:
    """The third of five tasks kills the process that works at it, as the kernel does for memory."""
    items = [signal.SIGCONT, signal.SIGCONT, signal.SIGKILL, signal.SIGCONT, signal.SIGCONT]
    with pytest.raises(InputError, match='one of 2 processes was killed.*fewer workers'):
        list(map_unordered(signal.raise_signal, items, workers=2))


def test_other_errors_of_processes_are_theirs() -> None:
    with pytest.raises(ValueError, match='math domain|nonnegative'):
        list(map_unordered(math.sqrt, [4, -1], workers=2))
    assert sorted(map_unordered(abs, [-3, 2, -1], workers=2)) == [1, 2, 3]


def test_the_signal_of_a_killed_worker_may_come_anywhere() -> None:
    """As in MMEngine's ``Config.pretty_text``, which makes a SyntaxError of any error."""
    try:
        try:
            raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. ')
        except Exception:
            raise SyntaxError('Failed to format the config file')  # noqa: B904
    except SyntaxError as error:
        assert user_message(error).startswith('DataLoader worker (pid 7) is killed')


def test_other_runtime_errors_keep_their_traceback() -> None:
    assert user_message(RuntimeError('a bug')) is None
