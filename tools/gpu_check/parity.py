"""The GPU against the CPU in float32: losses, gradients, predictions, optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from projects.common.speed.precision import use_tf32

from . import samples
from .report import Context, Finding, check

STEPS = 3
# Half of the last of TF32's 10 bits: a difference as large says that something computes in less
# than float32, whose own rounding is 8,000 times smaller.
TF32 = 2.0**-11


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
    found, expected = (outputs(models[device], test) for device in ('cuda', 'cpu'))
    yield Finding('outputs before thresholds and NMS', distance_of_each(found, expected), TF32)
    found, expected = (scores(models[device], test) for device in ('cuda', 'cpu'))
    yield Finding('scores of the predictions, best first', difference(found, expected), TF32)

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


def distance_of_each(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest distance of two tensors, in parts of the expected one's norm."""
    if not expected or [x.shape for x in found] != [x.shape for x in expected]:
        return float('inf')
    return max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(found, expected))


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest absolute difference of two tensors."""
    if not expected or [x.shape for x in found] != [x.shape for x in expected]:
        return float('inf')
    return max(float((a - b).abs().max()) for a, b in zip(found, expected) if a.numel())


@torch.no_grad()
def outputs(model: nn.Module, data: dict) -> list[Tensor]:
    """Return the tensors that ``mode='tensor'`` computes for a batch, on the CPU in float64."""
    samples.seed_everything(3)
    prepared = model.eval().data_preprocessor(data, False)
    found = tree_leaves(model(**prepared, mode='tensor'))
    return [value.detach().cpu().double() for value in found]


@torch.no_grad()
def scores(model: nn.Module, data: dict) -> list[Tensor]:
    """Return the scores of all predictions for each sample of a batch, best first.

    Boxes are not compared: where two have the same score, as those of proposals that cover the same
    cells have, the order in which NMS meets them decides which one stays.
    """
    samples.seed_everything(3)
    prepared = model.eval().data_preprocessor(data, False)
    found = model(**prepared, mode='predict')
    if isinstance(found, tuple):  # images and captions
        found = [sample for part in found for sample in part]
    values = [x.pred_score if 'pred_score' in x else x.pred_instances.scores for x in found]
    return [value.cpu().double().sort(descending=True).values for value in values]
