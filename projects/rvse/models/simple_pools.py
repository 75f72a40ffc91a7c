"""Pooling without weights to learn: the mean of a set, the last vector of a sequence."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .sequences import length_mask


@MODELS.register_module()
class MeanPool(nn.Module):
    """Pools a set into its mean, as VSE++ does with an image's features."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            features: (B, N, C); what lies beyond a set's size is not read.
            lengths: (B,) int64 from 1 to N, sizes of the sets.

        Returns:
            The pooled vectors (B, C) and the weights of the set (B, N).
        """
        mask = length_mask(lengths, features.shape[1])
        weights = mask.to(features.dtype) / lengths[:, None]
        return features.masked_fill(~mask[..., None], 0).sum(dim=1) / lengths[:, None], weights


@MODELS.register_module()
class LastPool(nn.Module):
    """Pools a sequence into its last vector, as VSE++ does with a GRU's states."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Arguments and results as of :class:`MeanPool`."""
        last = lengths - 1
        rows = torch.arange(len(features), device=features.device)
        weights = nn.functional.one_hot(last, features.shape[1]).to(features.dtype)
        return features[rows, last], weights
