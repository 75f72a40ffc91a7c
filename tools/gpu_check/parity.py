"""The GPU against the CPU in float32: losses, gradients, predictions, optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torchvision.ops import box_iou

from projects.common.speed.precision import use_tf32

from . import samples
from .report import Context, Finding, check

STEPS = 3


def compare(project: str, context: Context) -> Iterator[Finding]:
    """Compare a project's small model on both devices."""
    use_tf32(False)
    cfg = samples.config(project, context.work_dir)
    data = samples.batch(project, context.work_dir)
    models = {device: samples.build(cfg, device).train() for device in ('cpu', 'cuda')}
    losses = {device: samples.losses_of(model, data) for device, model in models.items()}
    worst = max(
        abs(float(losses['cuda'][key]) - float(value)) / max(1.0, abs(float(value)))
        for key, value in losses['cpu'].items()
    )
    yield Finding('losses', worst, 1e-4)
    for device in models:
        samples.total(losses[device]).backward()
    found, expected = (samples.gradients(models[device]) for device in ('cuda', 'cpu'))
    yield Finding('every parameter has a gradient', found.keys() == expected.keys(), True)
    yield Finding('gradients', samples.distance(found, expected), 1e-2)

    test = samples.batch(project, context.work_dir, 'test')
    found, expected = (predictions(models[device], test) for device in ('cuda', 'cpu'))
    yield Finding('predictions', difference(found, expected), 0.25)  # an untrained model's ties

    trained = {device: three_steps(model, data) for device, model in models.items()}
    (found, last), (expected, last_on_cpu) = trained['cuda'], trained['cpu']
    yield Finding(f'change of the weights in {STEPS} steps', distance_of_all(found, expected), 2e-2)
    worst = abs(last - last_on_cpu) / max(1.0, abs(last_on_cpu))
    yield Finding(f'loss of step {STEPS}', worst, 1e-3)


for _project in samples.PROJECTS:
    check(
        f'parity/{_project}',
        'look for the first part that differs: run its forward pass on both devices; if all do by '
        'about 1e-3, TF32 is on (env_cfg.tf32)',
    )(partial(compare, _project))


def three_steps(model: nn.Module, data: dict) -> tuple[dict[str, Tensor], float]:
    """Train on a batch; return the change of every weight and the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    before = samples.weights(model)
    for _ in range(STEPS):
        loss = samples.total(samples.losses_of(model.train(), data))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    after = samples.weights(model)
    return {name: value - before[name] for name, value in after.items()}, float(loss)


def distance_of_all(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the distance of all tensors, as one vector, in parts of its norm."""
    of, to = (torch.cat([t.flatten().double() for t in x.values()]) for x in (found, expected))
    return float((of - to).norm() / to.norm())


@torch.no_grad()
def predictions(model: nn.Module, data: dict) -> list:
    """Return what the model predicts for a batch."""
    samples.seed_everything(3)
    prepared = model.eval().data_preprocessor(data, False)
    return list(parts_of(model(**prepared, mode='predict')))


def parts_of(found) -> Iterator[Tensor | InstanceData]:
    """Walk through predictions; yield instances, and tensors on the CPU in float64."""
    if isinstance(found, InstanceData):
        yield found.cpu()
    elif isinstance(found, (BaseDataElement, dict)):
        for key, value in sorted(found.items()):
            if key.startswith('pred'):
                yield from parts_of(value)
    elif isinstance(found, (list, tuple)):
        for value in found:
            yield from parts_of(value)
    elif hasattr(found, 'shape'):
        yield torch.as_tensor(found).detach().cpu().double()


def difference(found: list, expected: list) -> float:
    """Return the largest difference of a part, of instances the share without an equal one."""
    if not expected or [type(x) for x in found] != [type(x) for x in expected]:
        return float('inf')
    return max(_difference(a, b) for a, b in zip(found, expected))


def _difference(found: Tensor | InstanceData, expected: Tensor | InstanceData) -> float:
    if isinstance(expected, Tensor):
        if found.shape != expected.shape:
            return float('inf')
        # a mean: rounding moves single pixels of a mask over its threshold
        return float((found - expected).abs().mean() / expected.abs().mean().clamp(min=1))
    if not len(found) or not len(expected):
        return float(len(found) != len(expected))
    # rounding changes the order of equal scores, and which of two boxes suppresses the other
    near = box_iou(expected.bboxes, found.bboxes) > 0.95
    if 'labels' in expected:
        near &= expected.labels[:, None] == found.labels
    if 'scores' in expected:
        near &= (expected.scores[:, None] - found.scores).abs() < 1e-3
    return float(1 - near.any(dim=1).double().mean())
