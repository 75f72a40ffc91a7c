"""Parameter-free pooling: the mean of a set and the last vector of a sequence."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .sequences import length_mask


@MODELS.register_module()
class MeanPool(nn.Module):
    """Pool a set into its mean, like VSE++ for the features of an image."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pool a batch of sets.

        Args:
            features: (B, N, C). Values beyond the size of a set are ignored.
            lengths: (B,) int64 from 1 to N, sizes of the sets.

        Returns:
            The pooled vectors (B, C) and the weights of the set (B, N).
        """
        mask = length_mask(lengths, features.shape[1])
        weights = mask.to(features.dtype) / lengths[:, None]
        return features.masked_fill(~mask[..., None], 0).sum(dim=1) / lengths[:, None], weights


@MODELS.register_module()
class LastPool(nn.Module):
    """Pool a sequence into its last vector, like VSE++ for the states of a GRU."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pool a batch of sequences; arguments and results are those of :class:`MeanPool`."""
        last = lengths - 1
        rows = torch.arange(features.shape[0], device=features.device)
        weights = nn.functional.one_hot(last, features.shape[1]).to(features.dtype)
        return features[rows, last], weights
