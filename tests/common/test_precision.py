"""Inference in bfloat16."""

from __future__ import annotations

import copy

import torch
from torch import nn

from projects.common.speed.precision import lower_precision


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
