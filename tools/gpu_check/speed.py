"""What a training step costs: launches, waits of the host, copies, and how busy the GPU is."""

from __future__ import annotations

import ctypes
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from projects.common.cli.config import load_config

from . import samples
from .report import Context, Finding, Skipped, check

# What a training step waits for, and what it copies to the GPU: in a step, and for each image.
# Constants that MMEngine and mmdet make of lists are copied from memory that is not pinned, and the
# host waits for each.
WAITS = {
    'plvl': {'norm of the gradients': 1, "MMEngine's order of channels": 1, "mmdet's GIoU": 1},
    'pdsl': {
        'norm of the gradients': 1,
        'pixels of the images, for the cue': 1,
        'numbers of foreground proposals': 1,
        'seeds': 1,
        "means and deviations of mmdet's box coder, to encode and to decode": 4,
    },
    'rvse': {
        'norm of the gradients': 1,
        "MMEngine's order of channels": 1,
        'lengths of the captions, by which the GRU packs them': 1,
    },
    'rvsepp': {'norm of the gradients': 1},
}
WAITS_OF_IMAGE = {'pdsl': {"MMEngine's order of channels": 1}}
PINNED = {
    'plvl': {'images': 1, 'tokens': 1, 'boxes': 1, 'masks': 1},
    'pdsl': {'pseudo masks': 1},
    'rvse': {'images': 1, 'tokens': 1, 'images of the captions': 1, 'pairs that match': 1},
    'rvsepp': {'regions': 1, 'tokens': 1},
}
PINNED_OF_IMAGE = {'pdsl': {'image': 1, 'tags': 1}}
NOT_PINNED = {
    'plvl': {"MMEngine's order of channels": 1, "mmdet's GIoU": 1},
    'pdsl': {"mmdet's box coder": 4},
    'rvse': {"MMEngine's order of channels": 1},
}
NOT_PINNED_OF_IMAGE = {
    # PyTorch pins tensors, not the data elements in which proposals are
    'pdsl': {"MMEngine's order of channels": 1, 'boxes and scores of proposals': 2}
}
# of orthogonalize() for all matrices of a shape: 9 products, and as many again around them
MUON_LAUNCHES = 18
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
    data = samples.batch(project, context.work_dir)
    yield from step_of(project, model, wrapper, data, context)
    yield from optimizer_step(wrapper.optimizer, 'optimizer', context)

    paper = load_config(samples.ROOT / f'configs/{samples.PAPER[project]}.py')
    optimizer = samples.wrapper_of(paper, model).optimizer
    yield from optimizer_step(optimizer, "paper's optimizer", context)


def regions(context: Context) -> Iterator[Finding]:
    """Count what a step of RVSE++ costs, with regions as inputs and a small BERT."""
    cfg, model, data = samples.rvsepp('cuda')
    yield from step_of('rvsepp', model.train(), samples.wrapper_of(cfg, model), data, context)


def step_of(
    project: str, model: nn.Module, wrapper: OptimWrapper, data: dict, context: Context
) -> Iterator[Finding]:
    """Count waits and copies of the third step on a batch."""
    data = samples.tokenized(model, data)
    data = torch.utils.data._utils.pin_memory.pin_memory(data, 'cuda')  # as the loader does

    def step() -> None:
        samples.seed_everything(2)
        model.train_step(data, wrapper)

    step()
    step()  # the optimizer's state is there
    found = counted(step, context)
    images = len(data['inputs'])

    def known(*reasons: dict[str, dict[str, int]]) -> int:
        """Return how many of a step's waits or copies have a reason."""
        in_step, of_image = (sum(each.get(project, {}).values()) for each in reasons)
        return in_step + images * of_image

    limit = known(WAITS, WAITS_OF_IMAGE)
    advice = ADVICE['waits']
    if found['waits'] > limit:
        advice += f'; here: {places(step)}'
    yield Finding('host waits', found['waits'], limit, advice)
    not_pinned = known(NOT_PINNED, NOT_PINNED_OF_IMAGE)
    limit = known(PINNED, PINNED_OF_IMAGE) + not_pinned
    yield Finding('copies', found['copies'], limit, ADVICE['copies'])
    yield Finding('of them not pinned', found['pageable'], not_pinned, ADVICE['pageable'])


def optimizer_step(
    optimizer: torch.optim.Optimizer, name: str, context: Context
) -> Iterator[Finding]:
    """Count waits and launches of an optimizer's step, after one that makes its state."""
    for group in optimizer.param_groups:
        for parameter in group['params']:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    found = counted(optimizer.step, context)
    yield Finding(f'host waits of the {name}', found['waits'], 0, ADVICE['optimizer_waits'])
    limit, advice = most_launches(optimizer), ADVICE['optimizer_launches']
    yield Finding(f'launches of the {name}', found['launches'], limit, advice)


def most_launches(optimizer: torch.optim.Optimizer) -> int:
    """Return how many kernels a step of an optimizer may launch.

    A loop over parameters, or over a group for each, launches at least one for each; kernels that
    take lists of tensors are fewer. Muon's products have to be launched for each shape.
    """
    groups = optimizer.param_groups
    shapes = {
        (p.shape[0] // group['parts'], p[0].numel())
        for group in groups
        if group.get('muon')
        for p in group['params']
    }
    return sum(len(group['params']) for group in groups) + MUON_LAUNCHES * len(shapes)


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
check('speed/rvsepp', 'see docs/gpu.md')(regions)
check(
    'speed/busy',
    'the GPU waits for the host: python benchmarks/bench.py shows which part; larger batches, '
    'torch.compile and fewer waits help',
    real='it has no clock',
)(partial(busy, 'plvl'))
