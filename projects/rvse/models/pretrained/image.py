"""Image side: any image model of transformers, or the image half of a dual encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

from projects.common.errors import InputError
from projects.common.pretrained.sources import (
    adapt,
    build_model,
    find_folder,
    from_bytes,
    plain_config,
    to_bytes,
)

_NOT_SETTINGS = ('image_processor_type', 'processor_class', '_processor_class')


@MODELS.register_module()
class TransformersImageEncoder(BaseModule):
    """Compute features of images with a model of transformers, as a backbone.

    The model's own image processor resizes and normalises, so the data preprocessor only turns BGR
    into RGB. A dual encoder (a model with ``get_image_features``) gives its embedding of an image,
    as a map of one cell. The config of the model and the settings of its processor are part of the
    state dict, so checkpoints are used without the hub.

    Any other model gives its pooled output, or the mean of its tokens if its pooling has weights.

    Args:
        pretrained: A folder, ``package:NAME/PATH`` for a folder in an installed package, or a
            Hugging Face Hub id.
        config: Config for random weights, with its ``model_type``, instead of ``pretrained``.
        processor: Settings of the image processor, besides those of ``pretrained``. With
            ``config``, the size is that of the model unless it is set here.
        regions: Return the tokens of an image as the cells of a map instead of its embedding.
        frozen: Do not train the model.
        lora: Arguments of ``peft.LoraConfig`` for low-rank adapters of the model.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: The model or its processor cannot be loaded, or peft is missing.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        processor: Mapping[str, Any] | None = None,
        regions: bool = False,
        frozen: bool = False,
        lora: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model: Any = build_model('backbone', pretrained, config, ('text',))
        self.dual = hasattr(self.model, 'get_image_features')
        if regions and self.dual:  # the projection of the embedding is not needed
            for name in [n for n, _ in self.model.named_children() if n != 'vision_model']:
                delattr(self.model, name)
        self._config = plain_config(self.model)  # before adapters change it
        self.regions = regions
        self.frozen = frozen
        if pretrained is None:
            self.processor = self._new_processor(processor or {})
        else:
            self.processor = _read_processor(pretrained, processor or {})
        adapt('backbone', self.model, frozen, lora)

    @staticmethod
    def stored_arguments(state: Tensor) -> dict[str, Any]:
        """Return the arguments that build the model for a state dict with this extra state."""
        stored = from_bytes(state)
        return dict(pretrained=None, config=stored['config'], processor=stored['processor'])

    def train(self, mode: bool = True) -> TransformersImageEncoder:
        """Set the mode; a frozen model stays in that of evaluation."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def init_weights(self) -> None:
        """Initialise from ``init_cfg`` if set; transformers has already initialised the weights."""
        if self.init_cfg:
            super().init_weights()

    def _new_processor(self, settings: Mapping[str, Any]) -> Any:
        kind = type(self.model.config)
        if kind not in IMAGE_PROCESSOR_MAPPING:
            raise InputError(f'backbone.config: {kind.__name__} has no image processor')
        slow, fast = IMAGE_PROCESSOR_MAPPING[kind]
        vision = getattr(self.model.config, 'vision_config', self.model.config)
        side = getattr(vision, 'image_size', None)
        size = dict(height=side, width=side)
        sizes = dict(size=size, crop_size=size) if isinstance(side, int) else {}
        processor: Any = fast or slow
        return processor(**{**sizes, **settings})

    def forward(self, images: Tensor) -> Tensor:
        """Compute a feature map of images.

        Args:
            images: (B, 3, H, W), RGB from 0 to 255.

        Returns:
            (B, C, 1, 1), or (B, C, N, 1) for N tokens of an image.
        """
        # As bytes, a bicubic filter cannot overshoot, as when the model was trained.
        pixels = images.round().clamp(0, 255).to(torch.uint8)
        given = self.processor(
            images=list(pixels), return_tensors='pt', input_data_format='channels_first'
        )
        given = {key: value.to(images.device) for key, value in given.items()}
        if self.dual and not self.regions:
            return self.model.get_image_features(**given)[:, :, None, None]
        out = (self.model.vision_model if self.dual else self.model)(**given)
        maps = out.last_hidden_state  # (B, N, C), or (B, C, h, w) of a convolutional network
        maps = maps.transpose(1, 2)[..., None] if maps.dim() == 3 else maps
        if self.regions:
            return maps
        pooled = out.get('pooler_output')
        pooled = maps.mean(dim=(2, 3)) if pooled is None else pooled.flatten(1)
        return pooled[:, :, None, None]

    def get_extra_state(self) -> Tensor:
        """Return config and processor settings as bytes (n,) uint8."""
        settings = json.loads(self.processor.to_json_string())
        kept = {k: v for k, v in settings.items() if k not in _NOT_SETTINGS and v is not None}
        return to_bytes(dict(config=self._config, processor=kept))

    def set_extra_state(self, state: Tensor) -> None:
        """Use the processor settings of a state dict."""
        if state.numel():
            for name, value in from_bytes(state)['processor'].items():
                setattr(self.processor, name, value)


def _read_processor(source: str, settings: Mapping[str, Any]) -> Any:
    folder = find_folder('backbone.pretrained', source)
    try:
        return AutoImageProcessor.from_pretrained(folder, use_fast=True, **settings)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'backbone.pretrained={source!r}: its image processor cannot be read ({reason}); '
            'expected a preprocessor_config.json'
        ) from None
