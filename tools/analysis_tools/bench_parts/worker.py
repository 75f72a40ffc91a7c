"""Work of one of several processes; launched by processes.py through torchrun."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist

from projects.common.cli.run import leave_process_group
from projects.common.speed.allocator import keep_freed_memory


def plvl(args: argparse.Namespace) -> Callable[[], object]:
    """Train the quick start's model: 16 samples over all processes, with gradient exchange."""
    import benchmark_plvl as one

    from bench_parts.work import config_of

    model = one.build_model(config_of('plvl/plvl_tiny_1xb16-3k_scenes'), 'cpu').train()
    images = 16 // dist.get_world_size()
    size = 64 if args.quick else 128
    inputs = one.make_inputs(model, images, size, 'cpu')
    targets = one.make_targets(images, size, 'cpu')

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> torch.Tensor:
            return sum(model.head.loss(model.extract_feat(*inputs), *targets).values())

    wrapped = torch.nn.parallel.DistributedDataParallel(Loss(), find_unused_parameters=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def run() -> None:
        for _ in range(1 if args.quick else 8):
            wrapped().backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def pdsl(args: argparse.Namespace) -> Callable[[], object]:
    """Compute GrabCut masks of images, shared among the processes, into one cache."""
    import cv2
    import mmcv

    from bench_parts.pictures import photographs
    from projects.pdsl.cues import CachedCue, GrabCutCue
    from projects.pdsl.proposals import of_this_rank

    cv2.setNumThreads(1)
    count, boxes = (2, 1) if args.quick else (8, 4)
    pictures = Path(args.folder) / 'pictures'
    pictures.mkdir(exist_ok=True)
    paths = []
    for i in range(count):
        image = mmcv.imread(str(photographs()[i % 2]))
        height, width = image.shape[:2]
        paths.append(pictures / f'{i}.jpg')
        if dist.get_rank() == 0:
            mmcv.imwrite(image[:, i * 8 :][:, : width - 64], str(paths[-1]))
    frames = [(40 + 30 * j, 60 + 10 * j, 300 + 40 * j, 300 + 20 * j) for j in range(boxes)]
    dist.barrier()

    def run() -> None:
        shared = [tempfile.mkdtemp(dir=args.folder) if dist.get_rank() == 0 else None]
        dist.broadcast_object_list(shared)
        cue = CachedCue(GrabCutCue(1 if args.quick else 5, num_threads=1), shared[0])
        for path in of_this_rank(paths):
            cue.fill(str(path), frames, read=False)

    return run


def rvse(args: argparse.Namespace) -> Callable[[], object]:
    """Run the test loop over regions and captions on disk, scoring all pairs."""
    import benchmark_rvse as one

    folder = Path(args.folder)
    images = 20 if args.quick else 400
    if dist.get_rank() == 0 and not (folder / 'vocab.json').is_file():
        one.write_coco(folder, images)
    dist.barrier()
    name = 'VSE' if args.quick else 'SCAN t2i'
    runner = one.coco_runner(folder, name, images // 5, launcher='pytorch')
    return runner.test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('project', choices=('plvl', 'pdsl', 'rvse'))
    parser.add_argument('folder')
    parser.add_argument('rounds', type=int)
    parser.add_argument('--quick', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group('gloo')
    run = globals()[args.project](args)
    seconds = []
    for _ in range(args.rounds + 1):
        dist.barrier()
        start = time.perf_counter()
        run()
        dist.barrier()
        seconds.append(time.perf_counter() - start)
    peak = torch.tensor([float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)])
    dist.all_reduce(peak)
    if dist.get_rank() == 0:
        found = statistics.median(seconds[1:])  # the first run warms up
        print('\n' + json.dumps(dict(seconds=found, peak_mib=peak.item() / 1024)), flush=True)
    del run
    leave_process_group()


if __name__ == '__main__':
    main()
