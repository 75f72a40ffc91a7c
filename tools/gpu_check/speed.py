"""What a training step costs: launches, waits of the host, copies, and how busy the GPU is."""

from __future__ import annotations

import ctypes
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from . import samples
from .report import Context, Finding, Skipped, check

# The largest counts of a training step of the small models, and of its optimizer's part. Those of
# PDSL are for each image, waits and launches of the optimizer for all.
LIMITS = {
    'plvl': dict(waits=10, copies=12, pageable=4, optimizer_waits=1, optimizer_launches=400),
    'pdsl': dict(waits=10, copies=12, pageable=10, optimizer_waits=1, optimizer_launches=400),
    # three GRUs, each with the lengths of its sequences on the host and their order
    'rvse': dict(waits=20, copies=12, pageable=10, optimizer_waits=1, optimizer_launches=400),
}
LEAST_BUSY = 0.5  # share of the time in which a kernel runs, at the papers' sizes
ADVICE = {
    'waits': 'the host waits for values: .item(), nonzero(), boolean masks, copies to the CPU; '
    "torch.cuda.set_sync_debug_mode('warn') names the lines",
    'copies': 'copy a batch to the GPU as few tensors, in the data preprocessor',
    'pageable': 'copy from pinned memory: pin_memory=True in the data loader, non_blocking=True',
    'optimizer_waits': 'the optimizer reads values on the host for every parameter or group',
    'optimizer_launches': 'merge parameter groups (MergedOptimWrapperConstructor) and use fused or '
    'foreach implementations',
}


class PretendedCounts(ctypes.Structure):
    """Counters of tests/pretended_gpu/runtime.cpp."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in ('launches', 'waits', 'to_device', 'to_host', 'on_device', 'pageable')
    ]


def counted(run: Callable[[], object], context: Context) -> Counter[str]:
    """Run and return ``launches``, ``waits``, ``copies``, ``pageable`` ones, and ``busy`` time."""
    torch.cuda.synchronize()
    if context.pretended:
        function = ctypes.CDLL(None).pretended_gpu_counts
        function.restype = ctypes.POINTER(PretendedCounts)
        counts = function().contents
        names = [name for name, _ in counts._fields_]
        before = {name: getattr(counts, name) for name in names}
        run()
        found = Counter({name: getattr(counts, name) - before[name] for name in names})
        found['copies'] = found['to_device']
        return found
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    start = time.perf_counter()
    with torch.profiler.profile(activities=activities) as profile:
        run()
        host = time.perf_counter() - start
        torch.cuda.synchronize()
    found = Counter(seconds=host)
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            found['busy'] += event.device_time_total / 1e6
            if 'Memcpy HtoD' in event.name:
                found['copies'] += 1
                found['pageable'] += 'Pageable' in event.name
        elif event.name.startswith(('cudaLaunchKernel', 'cuLaunchKernel')):
            found['launches'] += 1
        elif event.name in ('cudaStreamSynchronize', 'cudaEventSynchronize', 'cudaMemcpy'):
            found['waits'] += 1
    return found


def places(run: Callable[[], object]) -> str:
    """Run and return the lines at which the host waited most often."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    lines = Counter(
        f'{"/".join(w.filename.split("/")[-2:])}:{w.lineno}'
        for w in caught
        if 'synchronizing CUDA' in str(w.message)
    )
    return ', '.join(f'{count} x {line}' for line, count in lines.most_common(4))


def steps(project: str, context: Context) -> Iterator[Finding]:
    """Count what the third training step of a small model costs."""
    cfg = samples.config(project, context.work_dir)
    model = samples.build(cfg, 'cuda').train()
    wrapper = samples.wrapper_of(cfg, model)
    data = samples.tokenized(model, samples.batch(project, context.work_dir))
    data = torch.utils.data._utils.pin_memory.pin_memory(data, 'cuda')  # as the loader does

    def step() -> None:
        samples.seed_everything(2)
        model.train_step(data, wrapper)

    step()
    step()  # the optimizer's state is there
    found = counted(step, context)
    images = len(data['inputs']) if project == 'pdsl' else 1
    unit = ' for each image' if images > 1 else ''
    limits = LIMITS[project]
    for key, name in (
        ('waits', 'host waits'),
        ('copies', 'copies'),
        ('pageable', 'of them not pinned'),
    ):
        value = found[key] / images
        advice = ADVICE[key]
        if key == 'waits' and value > limits[key]:
            advice += f'; here: {places(step)}'
        yield Finding(f'{name}{unit}', value, limits[key], advice)

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    found = counted(wrapper.optimizer.step, context)
    for key, name in (('waits', 'host waits'), ('launches', 'launches')):
        limit = limits[f'optimizer_{key}']
        yield Finding(f'{name} of the optimizer', found[key], limit, ADVICE[f'optimizer_{key}'])


def busy(project: str, context: Context) -> Iterator[Finding]:
    """Measure how much of a step at the paper's size the GPU computes."""
    if not context.full:
        raise Skipped("measured with --full, at the paper's size")
    from benchmarks import plvl

    if project != 'plvl':
        raise Skipped('make bench measures it')
    model = plvl.build_model(False, 'cuda').train()
    loss = plvl.loss_of(model, 20, 448, 'cuda', 'bfloat16')
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value

    step()
    step()
    found = counted(step, context)
    yield Finding('share of busy GPU', found['busy'] / found['seconds'], LEAST_BUSY, least=True)
    yield Finding('peak memory in GiB', torch.cuda.max_memory_allocated() / 2**30, 15.0)


for _project in samples.PROJECTS:
    check(f'speed/{_project}', 'see docs/gpu.md')(partial(steps, _project))
check(
    'speed/busy',
    'the GPU waits for the host: python benchmarks/bench.py shows which part; larger batches, '
    'torch.compile and fewer waits help',
    real='it has no clock',
)(partial(busy, 'plvl'))
