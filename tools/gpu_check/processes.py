"""Two or more processes, one for each GPU, against one process with the joint batch."""

from __future__ import annotations

import datetime
import functools
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import samples
from .report import Context, Finding, Skipped, check

SECONDS = 120  # until processes that wait for one another give up
MOST_SECONDS = 480  # until all are ended


# ------------------------------------------------------------------------ what each process does


def matching(context: Context, rank: int, world: int) -> dict:
    """Compute losses and gradients of this process's part of a joint batch of RVSE."""
    cfg = samples.config('rvse', context.work_dir)
    model = samples.build(cfg, 'cuda').train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):  # statistics of parts of a batch differ
            module.train(False).train = functools.partial(_same, module)
    data = samples.batch('rvse', context.work_dir)
    own = {key: part_of(value, rank, world) for key, value in data.items()}
    joint = wrapped(model) if world > 1 else model
    losses = samples.losses_of(joint.train(), own)
    samples.total(losses).backward()
    values = {key: float(value.detach()) for key, value in losses.items()}
    return dict(losses=values, gradients=samples.gradients(model))


def instances(context: Context, rank: int, world: int) -> dict:
    """Train PDSL for two steps; the first process's image has no proposals in the second."""
    cfg = samples.config('pdsl', context.work_dir)
    model = samples.build(cfg, 'cuda').train()
    joint = wrapped(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = samples.batch('pdsl', context.work_dir)
    own = {key: value[rank % 2 :][:1] for key, value in data.items()}
    for step in range(2):
        if step and not rank:
            sample = own['data_samples'][0]
            sample.proposals = sample.proposals[:0]
        loss = samples.total(samples.losses_of(joint.train(), own))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    complete = all(p.grad is not None for p in model.parameters() if p.requires_grad)
    return dict(weights=samples.weights(model), complete=complete)


def metrics(context: Context, rank: int, world: int) -> dict:
    """Evaluate PLVL's metric on the samples of this process."""
    from projects.plvl.evaluation import GroundingMetric

    rng = np.random.default_rng(0)
    metric = GroundingMetric(collect_device='gpu' if _nccl(context) else 'cpu')
    boxes = torch.tensor(rng.uniform(0, 40, (7, 2, 2)))
    boxes = torch.cat([boxes, boxes + torch.tensor(rng.uniform(20, 40, (7, 2, 2)))], 2)
    for i in range(rank, 7, world):
        truth, found = (InstanceData(bboxes=box[None]) for box in boxes[i])
        sample = dict(
            img_id=i, ref_id=i, sent_id=0, text='', img_path=f'{i}.png', with_mask=False,
            gt_instances=truth, pred_instances=found,
        )  # fmt: skip
        metric.process({}, [sample])
    return dict(values=metric.evaluate(size=7))


def norms(context: Context, rank: int, world: int) -> dict:
    """Normalize this process's part of a batch with the statistics of the whole batch.

    The config key ``sync_bn = 'torch'`` converts layers in the same way.
    """
    samples.seed_everything()
    layer = nn.Sequential(nn.BatchNorm2d(4))
    own = part_of(torch.randn(2 * processes(), 4, 5, 5), rank, world).cuda()
    layer = wrapped(convert_sync_batchnorm(layer, 'torch')) if world > 1 else layer.cuda()
    found = layer(own)
    (found * own.roll(1, 1)).sum().mul(world).backward()  # DDP averages over processes
    inside = getattr(layer, 'module', layer)
    running = {name: value.cpu() for name, value in inside[0].named_buffers()}
    return dict(output=found.detach().cpu(), gradients=samples.gradients(inside), running=running)


PARTS = dict(matching=matching, metrics=metrics, norms=norms, instances=instances)


def processes() -> int:
    """Return the number of processes: one for each GPU, as long as each has a pair of RVSE's."""
    return min(torch.cuda.device_count(), samples.SAMPLES['rvse'])


def part_of(batch: Sequence, rank: int, world: int) -> Any:
    """Return a process's part of a batch; all parts together if there is one process."""
    count = len(batch) // processes()
    return batch[rank * count : (rank + 1) * count] if world > 1 else batch[: processes() * count]


def _same(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _nccl(context: Context) -> bool:
    return not context.pretended


def wrapped(model: nn.Module) -> nn.Module:
    model = model.cuda()
    device = torch.cuda.current_device()
    return MMDistributedDataParallel(model, device_ids=[device], broadcast_buffers=False)


def one_process(context: Context, rank: int, world: int, folder: Path) -> int:
    """Run all parts in one of several processes; store what each found."""
    torch.cuda.set_device(rank)
    backend = 'nccl' if _nccl(context) else 'gloo'
    limit = datetime.timedelta(seconds=SECONDS)
    store = torch.distributed.FileStore(str(folder / 'store'), world)
    torch.distributed.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=limit
    )
    for name, part in PARTS.items():
        torch.save(part(context, rank, world), folder / f'{name}_{rank}.pt')
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return 0


# --------------------------------------------------------------------------- what is checked


@functools.cache
def _launched(work_dir: Path, command: tuple[str, ...], world: int) -> tuple[Path, str]:
    """Start the processes; return their folder and, if one failed, the last line of its error."""
    folder = work_dir / 'processes' / str(socket.gethostname()) / str(os.getpid())
    folder.mkdir(parents=True)
    started = []
    for rank in range(world):
        options = ['--work-dir', work_dir, '--process', rank, world, folder]
        with open(folder / f'{rank}.log', 'w') as log:
            started.append(subprocess.Popen([*command, *map(str, options)], stdout=log, stderr=log))
    try:
        codes = [process.wait(timeout=MOST_SECONDS) for process in started]
    except subprocess.TimeoutExpired:
        codes = [1]
    finally:
        for process in started:
            process.kill()
    if not any(codes):
        return folder, ''
    logs = [(folder / f'{rank}.log').read_text().strip().splitlines() for rank in range(world)]
    errors = [line for log in logs for line in log[-40:] if 'Error' in line or 'error:' in line]
    return folder, errors[0].strip() if errors else 'the processes waited for one another'


def found_by(part: str, context: Context) -> tuple[dict, list[dict]]:
    """Return what one process finds, and what each of several does."""
    world = processes()
    if world < 2:
        raise Skipped('one GPU: several processes need several')
    samples.scenes(context.work_dir)
    folder, error = _launched(context.work_dir, tuple(context.command), world)
    paths = [folder / f'{part}_{rank}.pt' for rank in range(world)]
    if not all(path.is_file() for path in paths):
        raise RuntimeError(f'{error} (logs: {folder})')
    alone = PARTS[part](context, 0, 1)
    return alone, [torch.load(path, weights_only=True) for path in paths]


@check(
    'processes/matching',
    'each process must take its negatives from all (docs/distributed.md): see gather_negatives, '
    'then compare the similarities of each process with those of one',
)
def joint_batch(context: Context) -> Iterator[Finding]:
    alone, found = found_by('matching', context)
    worst = max(
        abs(each['losses'][key] - value) for each in found for key, value in alone['losses'].items()
    )
    yield Finding('losses equal those of the joint batch', worst, 1e-5)
    worst = max(samples.distance(each['gradients'], alone['gradients']) for each in found)
    yield Finding('gradients equal those of the joint batch', worst, 1e-2)


@check(
    'processes/instances',
    'a parameter that an image without proposals does not reach needs a gradient of zero: DDP '
    'waits for it in every process',
)
def without_proposals(context: Context) -> Iterator[Finding]:
    _, found = found_by('instances', context)
    complete = all(each['complete'] for each in found)
    yield Finding('every parameter has a gradient', complete, True)
    worst = max(samples.distance(each['weights'], found[0]['weights']) for each in found)
    yield Finding('weights are equal in all processes', worst, 0.0)


@check('processes/metrics', 'check NCCL with NCCL_DEBUG=INFO; metrics are gathered from all GPUs')
def same_metrics(context: Context) -> Iterator[Finding]:
    alone, found = found_by('metrics', context)
    same = found[0]['values'] == alone['values'] and len(alone['values']) > 0
    yield Finding('metrics equal those of one process', same, True)


@check(
    'processes/norms',
    'check NCCL with NCCL_DEBUG=INFO; SyncBatchNorm gathers the statistics of all GPUs',
)
def synchronized_norms(context: Context) -> Iterator[Finding]:
    alone, found = found_by('norms', context)
    joint = torch.cat([each['output'] for each in found])
    yield Finding('outputs', float((joint - alone['output']).abs().max()), 1e-4)
    for key in ('gradients', 'running'):
        worst = max(
            float((each[key][name] - value).abs().max())
            for each in found
            for name, value in alone[key].items()
        )
        yield Finding('running statistics' if key == 'running' else key, worst, 1e-4)
