"""Similarity of the VSE family: the cosine of two embeddings."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CosineSimilarity(nn.Module):
    """Compute s(V, T) = v^T t of unit vectors (section 3.1): one matrix product for all pairs."""

    def forward(
        self,
        images: Tensor,
        image_lengths: Tensor,
        captions: Tensor,
        caption_lengths: Tensor,
    ) -> Tensor:
        """Compute scores (I, T) of embeddings (I, C) and (T, C); lengths are ignored."""
        return F.linear(images, captions)
