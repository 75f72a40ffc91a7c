"""Feature maps of a model of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor
from transformers import AutoBackbone

from ..weights.sources import build_model, from_bytes, plain_config, to_bytes
from .feature_maps import FeatureMaps

__all__ = ['TransformersFeatureMaps']


@MODELS.register_module()
class TransformersFeatureMaps(FeatureMaps):
    """Compute feature maps with a model of transformers that ``AutoBackbone`` builds.

    DINOv2, ConvNeXt, Swin, ResNet and others. The config of the model is part of the state dict, so
    checkpoints are used without the hub.

    Args:
        pretrained: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a
            Hugging Face Hub id.
        config: Config for random weights, with its ``model_type``, instead of ``pretrained``. Its
            ``out_indices`` choose the maps.
        norm_eval: Keep the statistics of batch normalization and do not train its parameters.
        frozen: Do not train the model.

    Raises:
        FileNotFoundError: The folder does not exist.
        InputError: The model cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        norm_eval: bool = True,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        model = build_model('backbone', pretrained, config, auto=AutoBackbone)
        super().__init__(model, norm_eval, frozen, init_cfg)

    @staticmethod
    def stored_arguments(state: Tensor) -> dict[str, Any]:
        """Return the arguments that build the model for a state dict with this extra state."""
        return dict(pretrained=None, config=from_bytes(state)['config'])

    def get_extra_state(self) -> Tensor:
        """Return the config as bytes (n,) uint8."""
        return to_bytes(dict(config=plain_config(self.model)))

    def set_extra_state(self, state: Tensor) -> None:
        """Do nothing: the model is built already."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute feature maps (B, C, h, w) of images (B, 3, H, W), normalized."""
        return tuple(self.model(images).feature_maps)
