"""ResNet-WS, the backbone of weakly supervised detection (paper, section 4.4; reference [56])."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_conv_layer
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError


class DilatedBasicBlock(BasicBlock):
    """Dilate both convolutions of mmdet's block."""

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, dilation: int = 1, **kwargs
    ) -> None:
        super().__init__(inplanes, planes, stride, dilation, **kwargs)
        self.conv2 = build_conv_layer(
            kwargs.get('conv_cfg'),
            planes,
            planes,
            3,
            padding=dilation,
            dilation=dilation,
            bias=False,
        )


@MODELS.register_module()
class ResNetWS(ResNet):
    """Extend mmdet's ResNet by a stem of three 3x3 convolutions, and pool instead of striding.

    What strides throw away blindly, pooling keeps where it is strongest, which training from tags
    needs. The stem halves the image, its pooling halves it again; a stage may end in a pooling.
    The defaults are those of detection: stride 8, stages 3 and 4 (the paper's res4 and res5)
    dilated. Arguments that are not named here are mmdet's.

    Args:
        depth: 18, 50 or 101 (34 and 152 as well).
        stem_channels: Channels of all three convolutions of the stem.
        pools: Of every stage, the stride of the 2x2 max-pooling after it: 2, 1 (which keeps the
            size) or 0 for none. Pre-training on ImageNet has (2, 2, 0, 0) and no dilation.
        dilations: Of every stage, the dilation of its 3x3 convolutions.
        out_indices: Stages whose output is returned, from 0.
        outputs_before_pool: Return what a stage has before its pooling. With ``pools=(2, 2, 2, 0)``
            and ``dilations=(1, 1, 1, 1)`` these are the strides 4, 8, 16 and 32 of a pyramid.
        frozen_stages: As in mmdet; 4 freezes all, as the released code does while it detects.
        norm_cfg: As in mmdet.
        norm_eval: As in mmdet.

    Raises:
        ValueError: ``pools`` has a wrong length or another stride, or an argument asks for a
            strided or average-pooled shortcut, which this backbone does not have.

    Examples:
        >>> import torch
        >>> ResNetWS(18)(torch.zeros(1, 3, 96, 128))[0].shape
        torch.Size([1, 512, 12, 16])
    """

    semantic_arguments = ('pools', 'dilations')

    arch_settings = {
        depth: (DilatedBasicBlock if block is BasicBlock else block, blocks)
        for depth, (block, blocks) in ResNet.arch_settings.items()
        if block in (BasicBlock, Bottleneck)
    }

    def __init__(
        self,
        depth: int,
        stem_channels: int = 64,
        pools: Sequence[int] = (2, 1, 0, 0),
        dilations: Sequence[int] = (1, 1, 2, 2),
        out_indices: Sequence[int] = (3,),
        outputs_before_pool: bool = False,
        num_stages: int = 4,
        **kwargs,
    ) -> None:
        for name in ('strides', 'deep_stem', 'avg_down'):
            if name in kwargs:
                raise InputError(f'backbone.{name}: ResNetWS has none; see its pools')
        if len(pools) != num_stages or any(pool not in (0, 1, 2) for pool in pools):
            raise InputError(
                f'backbone.pools: {tuple(pools)}; expected {num_stages} strides of 0, 1 or 2'
            )
        super().__init__(
            depth,
            stem_channels=stem_channels,
            num_stages=num_stages,
            strides=(1,) * num_stages,
            dilations=dilations,
            out_indices=out_indices,
            deep_stem=True,
            **kwargs,
        )
        self.pools = tuple(pools)
        self.outputs_before_pool = outputs_before_pool

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        layers = []
        for index in range(3):
            conv = ConvModule(
                stem_channels if index else in_channels,
                stem_channels,
                3,
                stride=1 if index else 2,
                padding=1,
                conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg,
            )
            layers += [conv.conv, conv.norm, conv.activate]
        self.stem = nn.Sequential(*layers)  # the places that mmdet's deep stem gives them
        self.maxpool = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the stages.

        Args:
            x: (B, 3, H, W), normalised.

        Returns:
            Of every stage of ``out_indices``, its features (B, C, h, w).
        """
        x = self.maxpool(self.stem(x))
        outputs = []
        for index, name in enumerate(self.res_layers):
            x = stage = getattr(self, name)(x)
            x = _pool(x, self.pools[index])
            if index in self.out_indices:
                outputs.append(stage if self.outputs_before_pool else x)
        return tuple(outputs)


def _pool(x: Tensor, stride: int) -> Tensor:
    if stride == 0:
        return x
    if stride == 1:  # one row and one column more keep the size; features are never negative
        x = F.pad(x, (0, 1, 0, 1))
    return torch.max_pool2d(x, 2, stride)
