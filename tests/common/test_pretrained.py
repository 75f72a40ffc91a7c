"""Models of other makers that two projects use."""

from __future__ import annotations

import pytest
import torch

from projects.common.errors import InputError
from projects.common.pretrained import EfficientNetLite


def test_dilated_stage_computes_the_same():
    """Every second cell of the dilated map is the strided map: its filters see the same."""
    torch.manual_seed(0)
    strided = EfficientNetLite(out_indices=(4, 5)).eval()
    dilated = EfficientNetLite(out_indices=(4, 5), dilated=True).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 96)
        fine, coarse = strided(images)
        same, dense = dilated(images)
    assert fine.shape == (1, 112, 4, 6) and coarse.shape == (1, 320, 2, 3)
    assert torch.equal(same, fine) and dense.shape == (1, 320, 4, 6)
    torch.testing.assert_close(dense[:, :, 1::2, 1::2], coarse, rtol=1e-4, atol=1e-5)


def test_stages_that_are_not_asked_for_are_left_out():
    assert len(EfficientNetLite(out_indices=(4,)).layers) == 5
    with pytest.raises(InputError, match=r'backbone.out_indices=\(4,\): logits need \(6,\)'):
        EfficientNetLite(logits=True, out_indices=(4,))


def test_frozen_and_norm_eval():
    frozen = EfficientNetLite(frozen=True).train()
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
    kept = EfficientNetLite(norm_eval=True).train()
    assert kept.layers[0].training and not kept.layers[0].bn.training
