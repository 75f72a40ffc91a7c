"""Similarity of the VSE family: the cosine of two embeddings."""

from __future__ import annotations

import torch
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
        """Compute scores (I, T) of embeddings (I, C) and (T, C); lengths are ignored.

        The scores are float32 (or float64), even under autocast: thresholds on their differences,
        such as SelHN's 0.01, are as small as two or three steps of bfloat16 near 1.
        """
        with torch.autocast(images.device.type, enabled=False):
            if images.dtype != torch.float64:
                images, captions = images.float(), captions.float()
            return F.linear(images, captions)
