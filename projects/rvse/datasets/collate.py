"""Batches of image-text pairs that reach a GPU in one copy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS

__all__ = ['stack_pairs']


@FUNCTIONS.register_module()
def stack_pairs(batch: Sequence[dict]) -> dict:
    """Collate samples, with ``inputs`` of equal shapes as one tensor (B, ...).

    The workers of a loader call it, so that a batch is pinned and copied to a GPU at once. Inputs
    of different shapes, such as different numbers of regions, stay a list.
    """
    data = pseudo_collate(batch)
    inputs = data.get('inputs')
    if inputs and all(each.shape == inputs[0].shape for each in inputs):
        data['inputs'] = torch.stack(inputs)
    return data
