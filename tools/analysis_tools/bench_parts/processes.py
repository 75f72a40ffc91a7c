"""All three projects by number of processes, launched with torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from projects.common.errors import InputError

from .table import Row
from .work import Settings, Step

HERE = Path(__file__).resolve().parent
LAUNCHER = HERE.parents[1] / 'misc' / 'launch.py'


def steps(settings: Settings) -> Iterator[Step]:
    """Yield a fixed amount of work for 1, 2 and 4 processes of one thread each."""
    for project, what in (
        ('plvl', 'eight training steps of 16 samples, small model'),
        ('pdsl', 'cue precomputation'),
        ('rvse', 'evaluation of SCAN'),
    ):
        counts = settings.sizes((1, 2, 4), (1, 2))
        yield Step(
            project, what, 'processes', counts[-1], partial(by_processes, what, project, counts,
            settings), against='one process', threads=1,
        )  # fmt: skip


def by_processes(what: str, project: str, counts: tuple[int, ...], settings: Settings) -> list[Row]:
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            seconds[count] = launch(project, count, folder, settings)
    rows = [
        dict(
            what=what,
            size=count,
            ours=found['seconds'],
            baseline=seconds[1]['seconds'],
            peak_mib=found['peak_mib'],
            baseline_peak_mib=seconds[1]['peak_mib'],
            repeats=settings.rounds,
        )
        for count, found in seconds.items()
    ]
    return rows


def launch(project: str, count: int, folder: str, settings: Settings) -> dict[str, float]:
    """Run worker.py in ``count`` processes and return what it prints."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(LAUNCHER), f'--nproc_per_node={count}', '--nnodes=1']
    command += ['--master_addr=127.0.0.1', f'--master_port={port}', str(HERE / 'worker.py')]
    command += [project, folder, str(settings.rounds), *['--quick'] * settings.quick]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise InputError(f'{project} with {count} processes failed')
    return json.loads(next(x for x in done.stdout.splitlines() if x.startswith('{"seconds"')))
