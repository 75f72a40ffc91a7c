"""Matchers under autocast and gradient scaling."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import projects.rvse.register  # noqa: F401
from projects.rvse.text import Vocabulary

from .joint_batch_worker import WORDS, cases, samples

NAMES = ('Meta-SPN', 'SelHN, cross attention', 'SelHNLoss', 'AOQ')


def model_of(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(cases()[name])
    model.text_encoder.set_vocabulary(Vocabulary.build([' '.join(WORDS)], min_count=1))
    return model.train()


def gradients(name: str, dtype: torch.dtype | None, scale: float = 1.0) -> dict:
    """Return the gradients of one step, after unscaling."""
    model = model_of(name)
    data = samples(name, 0, 1)
    data['inputs'] = [image.float() for image in data['inputs']]
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    batch = model.data_preprocessor(data, True)
    with wrapper.optim_context(model), torch.autocast('cpu', dtype, enabled=dtype is not None):
        loss = model.loss(**batch)['loss']
    scaler = torch.amp.GradScaler('cpu', init_scale=scale)
    scaler.scale(loss).backward()
    scaler.unscale_(wrapper.optimizer)
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('name', NAMES)
def test_a_loss_scale_is_removed_once(name):
    """The gradient of Meta-SPN's network is scaled and unscaled like all others."""
    plain, scaled = gradients(name, None), gradients(name, None, 2.0**12)
    assert plain.keys() == scaled.keys()
    for key in plain:
        torch.testing.assert_close(scaled[key], plain[key], rtol=1e-4, atol=1e-7)
    if name == 'Meta-SPN':
        assert plain['criterion.weighting.0.weight'].any()


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_gradients_are_finite(name, dtype):
    found = gradients(name, dtype, 2.0**8)
    assert found and all(gradient.isfinite().all() for gradient in found.values())
