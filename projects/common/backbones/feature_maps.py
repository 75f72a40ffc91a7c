"""The base of backbones of other libraries."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ['FeatureMaps']


class FeatureMaps(BaseModule):
    """Hold a model of another library, whose weights are loaded when it is built.

    Args:
        model: The model.
        norm_eval: Keep the statistics of batch normalization and do not train its parameters, as
            detectors do that see few images at a time.
        frozen: Do not train the model.
    """

    def __init__(
        self, model: nn.Module, norm_eval: bool, frozen: bool, init_cfg: dict | None
    ) -> None:
        super().__init__(init_cfg)
        self.model: Any = model
        self.norm_eval = norm_eval
        self.frozen = frozen
        fixed = [model] if frozen else self._fixed_norms()
        for module in fixed:
            module.requires_grad_(False)

    def _fixed_norms(self) -> list[nn.Module]:
        if not self.norm_eval:
            return []
        return [module for module in self.model.modules() if isinstance(module, _BatchNorm)]

    def train(self, mode: bool = True) -> FeatureMaps:
        """Set the mode; what is frozen stays in that of evaluation."""
        super().train(mode)
        for module in [self.model] if self.frozen else self._fixed_norms():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Initialize from ``init_cfg`` if set; the library has already initialized the weights."""
        if self.init_cfg:
            super().init_weights()
