"""Image encoders for region (or grid) features (Figure 2)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .sequences import l2norm, length_mask
from .size_augmentation import drop_regions


class RegionMLP(nn.Module):
    """Apply two linear layers with a batch norm between them (Figure 9).

    The released code instantiates the second batch norm of the figure but never applies it.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(in_channels, channels // 2), nn.Linear(channels // 2, channels)]
        )
        self.bns = nn.ModuleList([nn.BatchNorm1d(channels // 2)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, in_channels) to (B, N, channels); statistics cover all B * N rows."""
        hidden = self.bns[0](self.layers[0](x.flatten(0, 1)))
        return self.layers[1](F.relu(hidden)).unflatten(0, x.shape[:2])


class RegionEncoder(BaseModule):
    """Encode regions with a linear layer, the layers of the subclass, and pooling.

    Args:
        in_channels: Channels of the region features.
        channels: Channels d of the embedding.
        pool: Config of the pooling over regions. None returns an embedding per region.
        drop_rate: Rate of the size augmentation in training; see :func:`drop_regions`.
    """

    def __init__(
        self,
        in_channels: int = 2048,
        channels: int = 1024,
        pool: dict | None = None,
        drop_rate: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.drop_rate = drop_rate
        self.fc = nn.Linear(in_channels, channels)
        self.gpool = MODELS.build(pool) if pool else None

    def init_weights(self) -> None:
        """Initialise the linear layer Xavier-uniformly with bias 0, as released."""
        bound = math.sqrt(6 / (self.fc.in_features + self.fc.out_features))
        nn.init.uniform_(self.fc.weight, -bound, bound)
        nn.init.zeros_(self.fc.bias)
        super().init_weights()

    def region_features(self, regions: Tensor) -> Tensor:
        """Map (B, N, in_channels) to (B, N, channels)."""
        return self.fc(regions)

    def forward(self, regions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of images.

        Args:
            regions: (B, N, in_channels).
            lengths: (B,), number of regions of each image.

        Returns:
            L2-normalised embeddings and the number of regions (B,) they were computed from.
            Embeddings are (B, C) with a pool, otherwise (B, N, C) and zero beyond the regions of an
            image.
        """
        if self.training and self.drop_rate:
            regions, lengths = drop_regions(regions, lengths, self.drop_rate)
        features = self.region_features(regions)
        if self.gpool is not None:
            return l2norm(self.gpool(features, lengths)[0]), lengths
        pads = ~length_mask(lengths, features.shape[1])[..., None]
        return l2norm(features).masked_fill(pads, 0), lengths


@MODELS.register_module()
class RegionFC(RegionEncoder):
    """Implement VSE (FC), Figure 2a, and without a pool the encoder of SCAN, BFAN and SGRAF."""


@MODELS.register_module()
class RegionFCMLP(RegionEncoder):
    """Implement VSE (MLP), Figure 2b, in which the MLP follows the linear layer."""

    def __init__(self, in_channels: int = 2048, channels: int = 1024, **kwargs) -> None:
        super().__init__(in_channels, channels, **kwargs)
        self.mlp = RegionMLP(channels, channels)

    def region_features(self, regions: Tensor) -> Tensor:
        """Map (B, N, in_channels) to (B, N, channels): linear layer, then MLP."""
        return self.mlp(self.fc(regions))


@MODELS.register_module()
class RegionResidualMLP(RegionFCMLP):
    """Implement RVSE (MLP) and RVSE++, Figure 2c: the MLP is a residual branch."""

    def region_features(self, regions: Tensor) -> Tensor:
        """Map (B, N, in_channels) to (B, N, channels): linear layer plus MLP of its output."""
        x = self.fc(regions)
        return x + self.mlp(x)


@MODELS.register_module()
class RegionParallelMLP(RegionEncoder):
    """Implement VSE-infinity: linear layer and MLP read the regions; their sum is pooled."""

    def __init__(self, in_channels: int = 2048, channels: int = 1024, **kwargs) -> None:
        super().__init__(in_channels, channels, **kwargs)
        self.mlp = RegionMLP(in_channels, channels)

    def region_features(self, regions: Tensor) -> Tensor:
        """Map (B, N, in_channels) to (B, N, channels): the sum of both branches."""
        return self.fc(regions) + self.mlp(regions)
