"""Visual backbones of other libraries in place of the language-guided one."""

from __future__ import annotations

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from projects.common.errors import InputError
from projects.common.weights.loading import check_torch_loading


@MODELS.register_module()
class LanguageFreeBackbone(BaseModule):
    """Wrap a backbone that outputs feature maps; cells of the last map become the visual tokens.

    Language enters only in the decoder. Set the head's ``patch_size`` to the backbone's stride.

    Args:
        backbone: Config with its scope, such as ``dict(type='mmdet.ResNet', ...)``, or one of
            ``projects/common/backbones``. Its weights come from its own ``init_cfg`` or
            ``pretrained``; without one it starts from random weights and logs that.
    """

    def __init__(self, backbone: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        sources = ('init_cfg', 'pretrained', 'weights')
        if init_cfg is None and not any(backbone.get(source) for source in sources):
            print_log(
                'the visual backbone starts from random weights: its `init_cfg` is not set',
                'current',
            )

    def init_weights(self) -> None:
        """Initialize the backbone, requiring that weights from a file match it."""
        init_cfg = self.backbone.init_cfg  # a list if the backbone has its own defaults
        source = init_cfg.get('checkpoint') if isinstance(init_cfg, dict) else None
        with check_torch_loading(
            self.backbone, source or 'its weights'
        ):  # mmdet's Swin reads the file itself
            super().init_weights()

    def forward(
        self,
        images: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        repeats: Tensor | None = None,
    ) -> Tensor:
        """Compute the visual tokens of images.

        Args:
            images: (B, 3, H, W), normalized.
            text: Not used.
            text_mask: Not used.
            repeats: (B,), the number of times to repeat the tokens of each image; None means once.

        Returns:
            Visual tokens (B or sum of ``repeats``, h, w, C).

        Raises:
            ValueError: If the last output of the backbone is not a feature map.
        """
        outputs = self.backbone(images)
        last = outputs[-1] if isinstance(outputs, (tuple, list)) else outputs
        if last.dim() != 4:
            raise InputError(
                f'backbone.backbone: {type(self.backbone).__name__} gives {tuple(last.shape)} '
                "last, expected a map (B, C, h, w); mmpretrain's transformers need "
                "out_type='featmap'"
            )
        tokens = last.permute(0, 2, 3, 1)
        return tokens if repeats is None else tokens.repeat_interleave(repeats, dim=0)
