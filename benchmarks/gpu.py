"""GPU measurements: all steps, compiled models, mmcv's CUDA operators, agreement with the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from . import machine, measure, pdsl, plvl, rvse
from .measure import Row, Settings, Step

# Steps that run on the CPU regardless of the network's device; galleries use faiss's CPU index.
CPU_ONLY = ('proposals', 'exact cues', 'cached cues', 'data', 'gallery')


def steps(settings: Settings) -> Iterator[Step]:
    """Yield the GPU steps; yield nothing without a GPU."""
    if not torch.cuda.is_available():
        return
    on_gpu = replace(settings, device='cuda')
    for part in (machine, plvl, pdsl, rvse):
        for step in part.steps(on_gpu):
            if not step.what.startswith(CPU_ONLY):
                yield replace(step, device='cuda')
    side = 64 if settings.quick else 448
    for dtype in plvl.DTYPES:
        yield Step('plvl', 'compiled prediction', 'image side', side,
                   partial(compiled, side, dtype, on_gpu), against='not compiled',
                   dtype=dtype, device='cuda')  # fmt: skip
    count = 30 if settings.quick else 2000
    for name in ('RoIAlign', 'NMS'):
        yield Step('pdsl', f"mmcv's {name}", 'boxes', count, partial(operator, name, count, on_gpu),
                   against="torchvision's", device='cuda')  # fmt: skip
    for project, run in (('plvl', of_plvl), ('pdsl', of_pdsl), ('rvse', of_rvse)):
        yield Step(project, 'largest difference from the CPU', 'samples', 1,
                   partial(difference, partial(run, settings)), unit='absolute',
                   device='cuda')  # fmt: skip


@torch.inference_mode()
def compiled(size: int, dtype: str, settings: Settings) -> Row:
    model, context = plvl.model_of(settings.quick, settings.device, dtype)
    inputs = plvl.make_inputs(model, 1, size, settings.device)

    def run(features: Callable) -> None:
        with context():
            model.head.predict(features(*inputs))

    fast = torch.compile(model.extract_feat)
    return measure.compare(partial(run, fast), partial(run, model.extract_feat), settings)


@torch.inference_mode()
def operator(name: str, count: int, settings: Settings) -> Row:
    import mmcv.ops
    import torchvision.ops

    boxes = pdsl.random_proposals(count, 800, 1200).to(settings.device)
    if name == 'NMS':
        inputs = (boxes, torch.linspace(0, 1, count, device=settings.device), 0.5)
        ours, baseline = mmcv.ops.nms, torchvision.ops.nms
    else:
        features = torch.randn(1, 512, 100, 150, device=settings.device)
        inputs = (features, torch.cat((boxes.new_zeros(count, 1), boxes), dim=1))
        ours = mmcv.ops.RoIAlign(14, 1 / 8, 0)
        baseline = torchvision.ops.RoIAlign(14, 1 / 8, 0, aligned=True)
    return measure.compare(partial(ours, *inputs), partial(baseline, *inputs), settings)


@torch.inference_mode()
def difference(run: Callable[[str], Tensor]) -> Row:
    """Return the largest difference between CPU and GPU, same weights and input, in float32."""
    return dict(ours=float((run('cuda').cpu() - run('cpu')).abs().max()), repeats=1)


def of_plvl(settings: Settings, device: str) -> Tensor:
    model = plvl.build_model(settings.quick, device)
    inputs = plvl.make_inputs(model, 1, 64 if settings.quick else 448, device)
    found = model.head.predict(model.extract_feat(*inputs))
    return torch.cat([value.flatten() for value in found.values()])


def of_pdsl(settings: Settings, device: str) -> Tensor:
    model = pdsl.build_model(settings.quick, device).eval()
    noise = torch.Generator().manual_seed(0)
    return model.extract_feat(torch.randn(1, 3, 480, 640, generator=noise).to(device))[0]


def of_rvse(settings: Settings, device: str) -> Tensor:
    model = rvse.similarity_of('SCAN t2i').to(device)
    return model(*(part.to(device) for part in rvse.embeddings('SCAN t2i', 20, 20)))
