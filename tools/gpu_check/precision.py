"""Half precision: losses near those of float32; overflows that leave the weights as they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, OPTIMIZERS
from torch import Tensor, nn

from projects.common.cli.config import load_config

from . import samples
from .report import Context, Finding, check

DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


def losses(project: str, name: str, context: Context) -> Iterator[Finding]:
    """Compare losses under autocast with those in float32, in parts of their sum."""
    cfg = samples.config(project, context.work_dir)
    data = samples.batch(project, context.work_dir)
    for sample in data['data_samples']:
        if 'proposals' in sample:  # bfloat16 has all corners in whole pixels, up to 256
            sample.proposals.bboxes = sample.proposals.bboxes + 0.3
    model = samples.build(cfg, 'cuda').train()
    rois: list[Tensor] = []  # that are pooled, of every run
    extractor = getattr(getattr(model, 'roi_head', None), 'bbox_roi_extractor', None)
    for layer in () if extractor is None else extractor.roi_layers:
        layer.register_forward_pre_hook(lambda _, given: rois.append(given[1].cpu().double()))
    exact = samples.losses_of(model, data)
    with torch.autocast('cuda', DTYPES[name]):
        found = samples.losses_of(model, data)
    finite = all(bool(value.isfinite().all()) for value in found.values())
    yield Finding('losses are finite', finite, True)
    whole = float(samples.total(exact))
    yield Finding('loss', abs(float(samples.total(found)) - whole) / whole, 0.02)
    if rois:
        moved = max(float((x - rois[0]).abs().max()) for x in rois)
        yield Finding('pixels by which corners of RoIs move', moved, 0.0)
    (samples.total(found) * (2.0**10 if name == 'fp16' else 1.0)).backward()
    finite = all(bool(g.isfinite().all()) for g in samples.gradients(model).values())
    yield Finding('gradients are finite', finite, True)


@check('precision/cosines', 'compute similarities in float32: SelHN tells apart steps of 0.01')
def cosines(context: Context) -> Iterator[Finding]:
    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.rand(32, 256, generator=generator), dim=1) for _ in range(2))
    lengths = torch.ones(32, dtype=torch.int64, device='cuda')
    similarity = MODELS.build(dict(type='CosineSimilarity'))
    for name, dtype in DTYPES.items():
        with torch.autocast('cuda', dtype):
            found = similarity(a.cuda(), lengths, b.cuda(), lengths)
        error = (found.detach().cpu().double() - a.double() @ b.double().T).abs().max()
        yield Finding(f'error under {name}', float(error), 1e-3)


def overflow(project: str, context: Context) -> Iterator[Finding]:
    """Make gradients overflow and step with every optimizer of a project's configs."""
    cfg = samples.config(project, context.work_dir)
    model = samples.build(cfg, 'cuda').train()
    wrapper = samples.wrapper_of(
        cfg, model, type='AmpOptimWrapper', loss_scale=dict(init_scale=2.0**100)
    )
    data = samples.batch(project, context.work_dir)
    before = samples.weights(model)
    samples.seed_everything(2)
    model.train_step(data, wrapper)
    name = type(wrapper.optimizer).__name__
    yield Finding(f'{name} left the weights', equal(samples.weights(model), before), True)
    scale = wrapper.loss_scaler.get_scale()
    advice = 'nothing overflowed: raise init_scale in this check'
    yield Finding('the gradients overflowed', scale < 2.0**100, True, advice)

    paper = load_config(samples.ROOT / f'configs/{samples.PAPER[project]}.py').optim_wrapper
    layer = nn.Linear(64, 64).cuda()
    optimizer = OPTIMIZERS.build({**paper.optimizer, 'params': layer.parameters()})
    before = samples.weights(layer)
    scaler = torch.amp.GradScaler('cuda', init_scale=1e30)
    scaler.scale(layer(torch.full((2, 64), 1e20, device='cuda')).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    name = f'{type(optimizer).__name__} of the paper-size config'
    yield Finding(f'{name} left the weights', equal(samples.weights(layer), before), True)


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(found[name], value) for name, value in expected.items())


for _project in samples.PROJECTS:
    for _name in DTYPES:
        check(
            f'precision/{_project}/{_name}',
            f'find the first part that is not finite or differs in {_name} (forward hooks), and '
            'compute it in float32: torch.autocast(..., enabled=False)',
        )(partial(losses, _project, _name))
    check(
        f'precision/{_project}/overflow',
        'the optimizer ignores found_inf of the gradient scaler: do not train with --amp; in its '
        'step, heed it or set _step_supports_amp_scaling = False',
    )(partial(overflow, _project))
