"""Muon for matrices, AdamW for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from projects.common.optim import muon
from projects.common.optim.muon import MuonAdamW, hidden_weights, orthogonalize

CFG = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=0.01, weight_decay=0.1),
)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.conv = nn.Conv1d(8, 8, 1)
        self.linear = nn.Linear(8, 10)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        x = self.attention(x, x, x)[0]
        return self.linear(self.conv(x.mT).mT)


def step(model: nn.Module, optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, (3, 4), generator=generator)
    optimizer.zero_grad()
    model(ids).square().mean().backward()
    optimizer.step()


def test_which_parameters_go_to_muon() -> None:
    model = Model()
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)]: parts for p, parts in hidden_weights(model).items()} == {
        'attention.in_proj_weight': 3,
        'attention.out_proj.weight': 1,
        'conv.weight': 1,
        'linear.weight': 1,
    }
    wrapper = build_optim_wrapper(model, copy.deepcopy(CFG))
    single, packed, others = wrapper.optimizer.param_groups
    assert [len(group['params']) for group in (single, packed)] == [3, 1]
    assert len(others['params']) == len(list(model.parameters())) - 4
    assert wrapper.get_lr()['lr'] == [0.01] * 3


@pytest.mark.parametrize('shape', [(3, 16, 16), (2, 24, 8), (2, 8, 40)])
def test_orthogonal_updates(shape) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrices)
    assert found.shape == matrices.shape
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    cosine = torch.cosine_similarity(found.flatten(1), (u @ v).flatten(1))
    assert cosine.min() > 0.95


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_all_but_the_smallest_singular_values_come_near_one(dtype, monkeypatch) -> None:
    monkeypatch.setattr(muon, '_working_dtype', lambda device_type: dtype)
    u, v = torch.linalg.qr(torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0)))[0]
    for values in (
        torch.logspace(-2, 0, 32).square(),
        torch.logspace(-2, 0, 32),
        torch.ones(32),
        torch.eye(32)[0],  # rank 1
        torch.tensor([1.0, 0.7, 0.4, 0.2] + 28 * [0.0]),
    ):
        values = values / values.norm()
        large = values >= 0.011
        found = torch.linalg.svdvals(orthogonalize((u * values @ v.T)[None]))[0]
        assert found[: int(large.sum())].min() > 0.69
        assert found.max() < 1.3


def test_equals_the_library_where_it_applies(monkeypatch) -> None:
    """torch.optim.Muon takes single matrices, and five iterations of one polynomial."""
    monkeypatch.setattr(muon, '_POLYNOMIALS', ((3.4445, -4.7750, 2.0315),) * 5)
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape)) for shape in ((16, 8), (16, 8), (8, 24))]
    bias = nn.Parameter(torch.randn(5))
    kernel = nn.Parameter(matrices[2].detach().reshape(8, 6, 2, 2).clone())
    packed = nn.Parameter(torch.cat([m.detach() for m in matrices[:2]]))
    bias2 = nn.Parameter(bias.detach().clone())
    ours = MuonAdamW(
        [
            dict(params=[kernel], muon=True),
            dict(params=[packed], muon=True, parts=2),
            dict(params=[bias2]),
        ],
        lr=0.01,
        weight_decay=0.1,
        betas=(0.9, 0.98),
    )
    library = torch.optim.Muon(matrices, 0.01, 0.1, adjust_lr_fn='match_rms_adamw')
    adamw = torch.optim.AdamW([bias], 0.01, (0.9, 0.98), weight_decay=0.1)
    for _ in range(4):
        for parameter in (*matrices, bias):
            parameter.grad = torch.randn_like(parameter)
        kernel.grad = matrices[2].grad.reshape(kernel.shape).clone()
        packed.grad = torch.cat([m.grad for m in matrices[:2]])
        bias2.grad = bias.grad.clone()
        for optimizer in (library, adamw, ours):
            optimizer.step()
    # The library rounds to bfloat16 before it divides by the norm.
    close = dict(rtol=0, atol=4 * 0.01 * 0.2 * 24**0.5 * 0.02)
    torch.testing.assert_close(kernel.flatten(1), matrices[2], **close)
    torch.testing.assert_close(packed, torch.cat(list(matrices[:2])), **close)
    assert torch.equal(bias2, bias)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = build_optim_wrapper(model, copy.deepcopy(CFG)).optimizer
    for seed in range(3):
        step(model, optimizer, seed)
    resumed = copy.deepcopy(model)
    restored = build_optim_wrapper(resumed, copy.deepcopy(CFG)).optimizer
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.param_groups[0]['lr'] = restored.param_groups[0]['lr'] = 0.5  # reaches Muon
    for seed in range(3, 6):
        before = copy.deepcopy(resumed.linear.weight)
        step(model, optimizer, seed)
        step(resumed, restored, seed)
    for found, expected in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert (resumed.linear.weight - before).abs().max() > 0.1  # by lr 0.5, not 0.01


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match='3,.* not 1 matrices'):
        MuonAdamW([dict(params=[nn.Parameter(torch.ones(3))], muon=True)])
    with pytest.raises(ValueError, match='paramwise_cfg'):
        build_optim_wrapper(Model(), dict(CFG, paramwise_cfg=dict(norm_decay_mult=0.0)))
