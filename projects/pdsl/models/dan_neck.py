"""What stands between backbone and classifier while ResNet-WS learns ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DANNeck(BaseModule):
    """Apply 2x2 max-pooling and the fully connected layers that :class:`PDSLBoxHead` takes over.

    The layers have the names and the shapes of that head's, whose ``init_cfg`` takes them over
    with ``dict(type='Pretrained', checkpoint=..., prefix='neck.')``.

    Args:
        in_channels: Channels of the last feature map.
        feat_size: Its height and width after the pooling.
        fc_channels: Outputs of the fully connected layers.
        dropout: Rate after each of them.
    """

    def __init__(
        self,
        in_channels: int = 512,
        feat_size: int = 7,
        fc_channels: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = [in_channels * feat_size**2, *fc_channels]
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:]))
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        """Initialize the layers as :class:`PDSLBoxHead` initializes them."""
        for layer in self.fcs:
            nn.init.normal_(layer.get_parameter('weight'), std=0.005)
            nn.init.constant_(layer.get_parameter('bias'), 0.1)
        super().init_weights()

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Compute features (B, D) of the last feature map (B, C, 2 s, 2 s), in a tuple."""
        x = F.max_pool2d(inputs[-1], 2).flatten(1)
        for layer in self.fcs:
            x = self.dropout(layer(x).relu())
        return (x,)
