"""The segmentation branch (paper, section 3.3)."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError

from .box_head import in_float32


@MODELS.register_module()
class PDSLMaskHead(FCNMaskHead):
    """Predict masks with one layer M^0 and ``num_specific`` class-specific layers.

    Arguments that are not named here are mmdet's.

    Args:
        num_specific: n_m, class-specific layers M^1 to M^n_m, 0 to 5 in the paper.
        class_agnostic: Whether M^0 has one channel (paper) or one for each class (as released).
    """

    def __init__(self, num_specific: int = 4, class_agnostic: bool = True, **kwargs) -> None:
        # mmdet's default names no scope, and mmpretrain has another class of that name.
        kwargs.setdefault('loss_mask', dict(type='mmdet.CrossEntropyLoss', use_mask=True))
        super().__init__(class_agnostic=class_agnostic, **kwargs)
        if num_specific < 0:
            raise InputError(f'mask_head.num_specific: {num_specific}; expected 0 or more')
        self.class_agnostic = False  # of what is predicted: see :meth:`predict_logits`
        channels = self.conv_logits.in_channels
        self.specific_logits = nn.ModuleList(
            nn.Conv2d(channels, self.num_classes, 1) for _ in range(num_specific)
        )

    def init_weights(self) -> None:
        """Initialize the last layers with a standard deviation of 0.001, as released.

        All masks start at a probability of one half. mmdet's initialization, meant for layers of
        many channels, starts M^0's only channel at logits of hundreds.
        """
        super().init_weights()
        for layer in (self.conv_logits, *self.specific_logits):
            nn.init.normal_(layer.get_parameter('weight'), std=0.001)
            nn.init.zeros_(layer.get_parameter('bias'))

    def prediction_layers(self) -> list[nn.Module]:
        """Return the layers that make logits (see tools/preflight.py)."""
        return [self.conv_logits, *self.specific_logits]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the logits of every layer.

        Args:
            x: (m, C, s, s), RoI features.

        Returns:
            Logits of M^0 (m, 1 or n_c, 2s, 2s) and of M^1 to M^n_m (m, n_c, 2s, 2s).
        """
        for conv in self.convs:
            x = conv(x)
        x = self.upsample(x).relu()
        return [layer(x) for layer in (self.conv_logits, *self.specific_logits)]

    def select(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        """Compute the logits (m, 2s, 2s) of each RoI's class ``labels`` (m,) in every layer."""
        return [in_float32(select_class(logits, labels)) for logits in self(x)]

    def predict_logits(self, x: Tensor) -> Tensor:
        """Average the class-specific logits, (m, n_c, 2s, 2s); M^0's if there are none."""
        logits = [in_float32(each) for each in self(x)]
        if len(logits) == 1:
            return logits[0].expand(-1, self.num_classes, -1, -1)
        return sum(logits[2:], logits[1]) / (len(logits) - 1)


def select_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Select each RoI's class, or the only channel, of logits (m, 1 or n_c, h, w): (m, h, w)."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(logits.shape[0], device=logits.device), labels]
