"""The plain variants compute the same as ours."""

from __future__ import annotations

import torch

from benchmarks.plvl import build_model, make_inputs, plain_attention
from projects.plvl.models.language_guided_block import RelativePositionAttention


def test_plain_attention_is_the_same_function() -> None:
    model = build_model(True, 'cpu')
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:
            torch.nn.init.normal_(parameter)
    inputs = make_inputs(model, 2, 64, 'cpu')
    ours = RelativePositionAttention.forward
    with torch.inference_mode():
        expected = model.extract_feat(*inputs)
        with plain_attention():
            assert RelativePositionAttention.forward is not ours
            found = model.extract_feat(*inputs)
    assert RelativePositionAttention.forward is ours
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
