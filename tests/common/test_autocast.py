"""Training in bfloat16 on a CPU."""

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def test_products_are_bfloat16_and_weights_float32():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    wrapper = OPTIM_WRAPPERS.build(dict(type='BFloat16OptimWrapper', optimizer=optimizer))
    x, before = torch.randn(3, 4), model.weight.detach().clone()
    with wrapper.optim_context(model):
        y = model(x)
    assert y.dtype == torch.bfloat16
    assert model(x).dtype == torch.float32  # outside of the context
    wrapper.update_params(y.float().sum())
    assert model.weight.dtype == torch.float32
    # d sum(x W^T + b) / dW is the sum of the rows of x, as bfloat16 has them
    expected = before - 0.5 * x.bfloat16().float().sum(0)
    torch.testing.assert_close(model.weight.detach(), expected.expand(2, 4), rtol=0.02, atol=0.02)
