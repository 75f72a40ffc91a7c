"""Optimizers as the configs build them: groups, states and gradient scaling."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

import projects.common.register  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = sorted((ROOT / 'configs/_base_/schedules').glob('*.py'))


def optimizer_configs() -> dict[str, dict]:
    """Return the different optimizer wrappers of all schedules, by the name of the first."""
    found: dict[str, dict] = {}
    for path in SCHEDULES:
        wrapper = Config.fromfile(path).get('optim_wrapper', {}).to_dict()
        if 'type' in wrapper.get('optimizer', {}) and wrapper not in found.values():
            found[path.stem] = wrapper
    return found


CONFIGS = optimizer_configs()


class Model(nn.Module):
    """Has a part for each key of the configs' ``custom_keys``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 16))
        self.text_encoder = nn.ModuleDict({'encoder': nn.Linear(8, 16)})
        self.head = nn.Linear(16, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x) + self.text_encoder['encoder'](x))


def wrapper_of(model: nn.Module, name: str, **changes):
    cfg = {**copy.deepcopy(CONFIGS[name]), **changes}
    if cfg['type'] == 'AmpOptimWrapper':  # it refuses to be built without a GPU
        cfg['type'] = 'OptimWrapper'
        cfg.pop('loss_scale')
    return build_optim_wrapper(model, cfg)


def take_step(model: nn.Module, optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    model(torch.randn(4, 8, generator=generator)).square().mean().backward()
    optimizer.step()


def test_all_optimizers_are_here():
    types = {cfg['optimizer']['type'] for cfg in CONFIGS.values()}
    assert types == {'Adam', 'AdamW', 'SGD', 'MuonAdamW'}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_group_for_each_combination_of_options(name):
    model = Model()
    groups = wrapper_of(model, name).optimizer.param_groups
    options = [{key: value for key, value in group.items() if key != 'params'} for group in groups]
    assert all(options[i] not in options[:i] for i in range(len(options)))
    assert len(groups) <= 3
    trained = [id(p) for group in groups for p in group['params']]
    assert sorted(trained) == sorted(id(p) for p in model.parameters())
    # A first step that overflows leaves fused SGD's momentum uninitialized (PyTorch 2.11).
    fused = CONFIGS[name]['optimizer']['type'] != 'SGD'
    assert all(bool(group['fused']) == fused for group in groups)


@pytest.mark.parametrize('name', [n for n, cfg in CONFIGS.items() if 'paramwise_cfg' in cfg])
def test_groups_of_every_parameter_do_the_same(name):
    """MMEngine's own constructor gives the same weights, and its saved states can be loaded."""
    model, other = Model(), Model()
    merged = wrapper_of(model, name).optimizer
    single = wrapper_of(other, name, constructor='DefaultOptimWrapperConstructor').optimizer
    assert len(single.param_groups) == 10 > len(merged.param_groups)
    for seed in range(3):
        take_step(model, merged, seed)
        take_step(other, single, seed)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)

    resumed = wrapper_of(model, name).optimizer
    resumed.load_state_dict(copy.deepcopy(single.state_dict()))
    assert len(resumed.param_groups) == len(merged.param_groups)
    states = {id(p): state for p, state in resumed.state.items()}
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        for key, value in single.state[b].items():
            torch.testing.assert_close(states[id(a)][key], value)
    resumed.load_state_dict(copy.deepcopy(resumed.state_dict()))  # its own are loaded, too
    take_step(model, resumed, 3)
    take_step(other, single, 3)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('unscale', [False, True], ids=['plain', 'clipped'])
def test_an_overflow_leaves_the_weights(name, unscale):
    """A step whose gradients are not finite is skipped whole, and the next one is taken."""
    model = Model()
    optimizer = wrapper_of(model, name).optimizer
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**10)
    before = [p.detach().clone() for p in model.parameters()]

    def step(factor: float) -> None:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 8)).square().mean()
        scaler.scale(loss * factor).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    step(1e38)
    assert scaler.get_scale() == 2.0**9
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    step(1.0)
    changed = [not torch.equal(p, value) for p, value in zip(model.parameters(), before)]
    assert any(changed) and all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('name', CONFIGS)
def test_a_loss_scale_does_not_change_the_step(name):
    model, other = Model(), Model()
    optimizer, plain = wrapper_of(model, name).optimizer, wrapper_of(other, name).optimizer
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**10)
    for seed in range(2):
        take_step(other, plain, seed)
        generator = torch.Generator().manual_seed(seed)
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(4, 8, generator=generator)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
