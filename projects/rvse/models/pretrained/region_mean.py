"""Image encoder without weights, for backbones whose features are embeddings already."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ..sequences import l2norm
from ..simple_pools import MeanPool


@MODELS.register_module()
class RegionMean(BaseModule):
    """Pool regions into their mean, without weights of its own.

    With the embedding of a dual encoder as the only region of an image, it is that embedding.
    """

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.gpool = MeanPool()

    def forward(self, regions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of images.

        Args:
            regions: (B, N, C).
            lengths: (B,), number of regions of each image.

        Returns:
            L2-normalised embeddings (B, C) and the number of regions (B,).
        """
        return l2norm(self.gpool(regions, lengths)[0]), lengths
