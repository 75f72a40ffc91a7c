"""EEVG's head (Chen et al., ECCV 2024): a box from one token, a mask from each of the others."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.ops import box_convert

from .elimination_decoder import KeptTokens, scatter_to_map
from .losses import mask_losses


@MODELS.register_module()
class TokenMLPHead(BaseModule):
    """Predict the box from the regression token and a mask patch from each visual token.

    Patches of eliminated tokens are zero before the last convolution.

    Args:
        in_channels: Channels of the tokens.
        hidden_channels: Hidden channels of both MLPs.
        patch_size: Side in pixels of a token's patch in the mask.
        loss_bbox: Loss of boxes, normalized cx cy w h, summed over the four and divided by the
            batch size.
        loss_iou: Overlap loss of normalized XYXY boxes.
        loss_mask: Pixel loss of the mask logits.
        loss_dice: Overlap loss of the mask logits.
        det_weight: Weight of the box losses.
        seg_weight: Weight of the mask losses.
    """

    predicts_boxes = True
    predicts_masks = True
    reads_tokens = True  # instead of a feature map

    def __init__(
        self,
        in_channels: int = 768,
        hidden_channels: int = 768,
        patch_size: int = 16,
        loss_bbox: dict = dict(type='mmdet.L1Loss'),  # noqa: B006
        loss_iou: dict = dict(type='mmdet.GIoULoss'),  # noqa: B006
        loss_mask: dict = dict(type='mmdet.FocalLoss'),  # noqa: B006
        loss_dice: dict = dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0),  # noqa: B006
        det_weight: float = 0.1,
        seg_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.det_weight = det_weight
        self.seg_weight = seg_weight
        self.box_mlp = _mlp(in_channels, hidden_channels, 4, num_layers=3)
        self.mask_mlp = _mlp(in_channels, hidden_channels, patch_size**2, num_layers=2)
        self.mask_conv = nn.Sequential(nn.PixelShuffle(patch_size), nn.Conv2d(1, 1, 5, padding=2))
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)

    def forward(self, tokens: KeptTokens) -> dict[str, Tensor]:
        """Compute the raw outputs from the decoder's tokens.

        Returns:
            - 'box': (B, 4), logits of normalized cx cy w h;
            - 'mask': (B, 1, h * P, w * P), logits of the mask.
        """
        patches = scatter_to_map(self.mask_mlp(tokens.visual), tokens.cells, tokens.grid)
        return {'box': self.box_mlp(tokens.reg), 'mask': self.mask_conv(patches)}

    def prediction_layers(self) -> list[nn.Module]:
        """Return the layers that compute the box and mask logits (see tools/preflight.py)."""
        return [self.box_mlp, self.mask_conv]

    def predict(self, tokens: KeptTokens) -> dict[str, Tensor]:
        """Predict boxes and mask probabilities.

        Returns:
            'boxes_norm' (B, 4), normalized XYXY clamped to the image, and 'mask_probs'
            (B, h * P, w * P).
        """
        outputs = self(tokens)
        boxes = box_convert(outputs['box'].float().sigmoid(), 'cxcywh', 'xyxy')
        return {
            'boxes_norm': boxes.clamp(0, 1),
            'mask_probs': outputs['mask'][:, 0].float().sigmoid(),
        }

    def loss(
        self,
        tokens: KeptTokens,
        boxes_norm: Tensor,
        masks: Tensor,
        with_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the box and mask losses, in float32 even under autocast.

        Args:
            tokens: Output of the decoder.
            boxes_norm: (B, 4), normalized XYXY.
            masks: (B, H, W), 0 or 1; resized to the predicted mask.
            with_mask: (B,) bool, False for samples whose mask is unknown; None if all are known.

        Returns:
            ``loss_bbox``, ``loss_iou``, ``loss_mask`` and ``loss_dice``.
        """
        outputs = self(tokens)
        with torch.autocast(boxes_norm.device.type, enabled=False):
            boxes, targets = outputs['box'].float().sigmoid(), boxes_norm.float()
            targets_cxcywh = box_convert(targets, 'xyxy', 'cxcywh')
            loss_bbox = self.loss_bbox(boxes, targets_cxcywh, avg_factor=len(boxes))
            loss_iou = self.loss_iou(box_convert(boxes, 'cxcywh', 'xyxy'), targets)
            return {
                'loss_bbox': self.det_weight * loss_bbox,
                'loss_iou': self.det_weight * loss_iou,
                **mask_losses(
                    outputs['mask'].float(),
                    masks,
                    with_mask,
                    self.loss_mask,
                    self.loss_dice,
                    self.seg_weight,
                ),
            }


def _mlp(in_channels: int, hidden: int, out_channels: int, num_layers: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_layers - 1):
        layers += [nn.Linear(in_channels, hidden), nn.ReLU()]
        in_channels = hidden
    return nn.Sequential(*layers, nn.Linear(in_channels, out_channels))
