"""Backbone: any classifier of torchvision, without its last layer."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.backbones import torchvision_model
from projects.common.errors import InputError
from projects.common.weights.sources import adapt


@MODELS.register_module()
class TorchvisionBackbone(BaseModule):
    """Compute the features that a classifier of torchvision feeds to its last linear layer.

    Args:
        name: As listed by ``torchvision.models.list_models()``.
        weights: Name of torchvision's weights, such as 'DEFAULT', which are downloaded once, or a
            file of them. None starts from random weights, or takes those of ``init_cfg``.
        frozen: Do not train the model.

    Raises:
        FileNotFoundError: The file of the weights does not exist.
        InputError: There is no such model or there are no such weights, they cannot be downloaded,
            or the model does not end with a linear layer.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model = torchvision_model(name, weights)
        linear = [key for key, part in self.model.named_modules() if isinstance(part, nn.Linear)]
        if not linear:
            raise InputError(f'backbone.name={name!r}: it does not end with a linear layer')
        parent, _, last = linear[-1].rpartition('.')
        setattr(self.model.get_submodule(parent), last, nn.Identity())
        self.frozen = frozen
        adapt('backbone', self.model, frozen, None)

    def train(self, mode: bool = True) -> TorchvisionBackbone:
        """Set the mode; a frozen model stays in that of evaluation."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (B, C, 1, 1) of images (B, 3, H, W)."""
        return self.model(images).flatten(1)[:, :, None, None]
