"""Inference in bfloat16, and TF32 on a GPU."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from projects.common.speed.precision import lower_precision, use_tf32

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    ROOT / 'configs' / name
    for name in (
        'plvl/plvl_vit-b_4xb20-150e_refcoco.py',
        'pdsl/pdsl_r18_4xb1-100k_voc12.py',
        'rvse/rvsepp_selhn_1xb128-30e_f30k.py',
    )
]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.linear = nn.Linear(16, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.linear(x)


def test_what_is_converted_and_how_close_it_stays() -> None:
    torch.manual_seed(0)
    model = Model().eval()
    ids = torch.arange(7)[None]
    with torch.inference_mode():
        expected = model(ids)
    half, context = lower_precision(copy.deepcopy(model))
    assert {name: p.dtype for name, p in half.named_parameters()} == {
        'embedding.weight': torch.float32,
        'attention.in_proj_weight': torch.bfloat16,
        'attention.in_proj_bias': torch.bfloat16,
        'attention.out_proj.weight': torch.bfloat16,
        'attention.out_proj.bias': torch.bfloat16,
        'norm.weight': torch.float32,
        'norm.bias': torch.float32,
        'linear.weight': torch.bfloat16,
        'linear.bias': torch.bfloat16,
    }
    with torch.inference_mode(), context():
        found = half(ids)
    assert found.dtype == torch.bfloat16
    error = (found.float() - expected).abs().max()
    assert 0 < error < 0.03  # eight bits of mantissa, values around 1


@pytest.fixture
def precisions():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(
    ('enabled', 'expected'),
    [(True, ('high', True)), (False, ('highest', False)), (None, ('highest', True))],
)
def test_tf32_is_chosen_on_a_gpu(precisions, monkeypatch, enabled, expected) -> None:
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32 = True
    use_tf32(not enabled)  # there is no GPU, so that it does nothing
    assert torch.get_float32_matmul_precision() == 'highest'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    use_tf32(enabled)
    found = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    assert found == expected


def test_configs_use_tf32() -> None:
    for path in CONFIGS:
        assert Config.fromfile(path).env_cfg.tf32 is True, path
