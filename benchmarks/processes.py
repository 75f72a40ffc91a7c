"""All three projects by number of processes, launched with torchrun.

This file is also the script that the processes run: processes.py PROJECT FOLDER ROUNDS [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))

import torch
import torch.distributed as dist

from benchmarks.measure import Clock, Row, Settings, Step, ignore_stages, photographs, training_step
from projects.common.cli.run import leave_process_group
from projects.common.errors import InputError
from projects.common.speed.allocator import keep_freed_memory

WORK = {
    'plvl': 'eight training steps of 16 samples, small model',
    'pdsl': 'cue precomputation',
    'rvse': 'evaluation of SCAN',
}


def steps(settings: Settings) -> Iterator[Step]:
    """Yield a fixed amount of work for 1, 2 and 4 processes of one thread each."""
    counts = settings.sizes((1, 2, 4), (1, 2))
    for project, what in WORK.items():
        run = partial(by_processes, project, counts, settings)
        yield Step(project, what, 'processes', counts[-1], run, against='one process', threads=1)


def by_processes(project: str, counts: tuple[int, ...], settings: Settings) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            row = launch(project, count, folder, settings)
            first = rows[0] if rows else row
            row.update(baseline=first['ours'], baseline_peak_mib=first['peak_mib'])
            rows.append(dict(row, size=count, repeats=settings.rounds))
    return rows


def launch(project: str, count: int, folder: str, settings: Settings) -> Row:
    """Run this file in ``count`` processes and return what it prints."""
    command = [sys.executable, str(ROOT / 'tools/misc/launch.py'), '--standalone']
    command += [f'--nproc_per_node={count}', __file__, project, folder, str(settings.rounds)]
    command += ['--quick'] * settings.quick
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise InputError(f'{project} with {count} processes failed')
    return json.loads(next(x for x in done.stdout.splitlines() if x.startswith('{"ours"')))


# ----------------------------------------------------------------------- the work of one process


def plvl(folder: Path, quick: bool) -> Callable[[], object]:
    """Train the quick start's model: 16 samples over all processes, with gradient exchange."""
    from benchmarks import plvl

    model = plvl.build_model(True, 'cpu').train()
    compute = plvl.loss_of(model, 16 // dist.get_world_size(), 64 if quick else 128, 'cpu')

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> torch.Tensor:
            return compute()

    wrapped = torch.nn.parallel.DistributedDataParallel(Loss(), find_unused_parameters=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def run() -> None:
        for _ in range(1 if quick else 8):
            training_step(wrapped, optimizer, ignore_stages)

    return run


def pdsl(folder: Path, quick: bool) -> Callable[[], object]:
    """Compute GrabCut masks of images, shared among the processes, into one cache."""
    import cv2
    import mmcv

    from projects.pdsl.cues import CachedCue, GrabCutCue
    from projects.pdsl.proposals import of_this_rank

    cv2.setNumThreads(1)
    count, boxes = (2, 1) if quick else (8, 4)
    paths = [folder / f'images/{i}.jpg' for i in range(count)]
    for i, path in enumerate(paths):
        if dist.get_rank() == 0:
            image = mmcv.imread(str(photographs()[i % 2]))
            mmcv.imwrite(image[:, i * 8 :][:, : image.shape[1] - 64], str(path))
    frames = [(40 + 30 * j, 60 + 10 * j, 300 + 40 * j, 300 + 20 * j) for j in range(boxes)]
    dist.barrier()

    def run() -> None:
        shared = [tempfile.mkdtemp(dir=folder) if dist.get_rank() == 0 else None]
        dist.broadcast_object_list(shared)
        cue = CachedCue(GrabCutCue(1 if quick else 5, num_threads=1), shared[0])
        for path in of_this_rank(paths):
            cue.fill(str(path), frames, read=False)

    return run


def rvse(folder: Path, quick: bool) -> Callable[[], object]:
    """Run the test loop over regions and captions on disk, scoring all pairs."""
    from benchmarks import rvse

    images = 20 if quick else 400
    if dist.get_rank() == 0 and not (folder / 'vocab.json').is_file():
        rvse.write_features(folder, images)
    dist.barrier()
    return rvse.evaluation_of(folder, quick, images, 'pytorch').test


def time_of(run: Callable[[], object], rounds: int) -> float:
    """Return the median seconds until all processes have finished."""

    def together() -> None:
        run()
        dist.barrier()

    clock = Clock()
    for _ in range(rounds + 1):
        dist.barrier()
        clock('run', together)
    return statistics.median(clock.seconds['run'][1:])  # the first run warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('project', choices=WORK)
    parser.add_argument('folder', type=Path)
    parser.add_argument('rounds', type=int)
    parser.add_argument('--quick', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group('gloo')
    seconds = time_of(globals()[args.project](args.folder, args.quick), args.rounds)
    peak = torch.tensor([float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)])
    dist.all_reduce(peak)
    if dist.get_rank() == 0:
        print('\n' + json.dumps(dict(ours=seconds, peak_mib=peak.item() / 1024)), flush=True)
    leave_process_group()


if __name__ == '__main__':
    main()
