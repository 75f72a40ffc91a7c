"""The collaborative multi-task head (paper, section 3.3, Figure 4)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.common.errors import InputError

from .center_targets import center_heatmaps
from .losses import mask_losses

TASKS = ('center', 'offset', 'size', 'mask')


@MODELS.register_module()
class CollaborativeHead(BaseModule):
    """Predict the center, offset and size of the box and the mask from one feature map.

    The channels are split evenly among the groups of tasks. The tasks of a group share a 3x3
    convolution, then each has its own branch. {center, mask} and {offset, size} is the grouping of
    the paper (Table 6). Tasks in no group are not predicted: without 'mask' the head is for REC
    alone, with 'mask' alone it is for RES alone (Table 5).

    Args:
        in_channels: Channels of the feature map.
        patch_size: Side in pixels of the mask patch of a cell; ``P`` of the backbone, or less for a
            mask coarser than the image.
        groups: Tasks of each group, out of 'center', 'offset', 'size' and 'mask'.
        group_channels: Number of channels per group, assigned in order from the first channel.
            None splits ``in_channels`` evenly. The released RES-only model is a single group with
            256 of the 512 channels, exactly what the mask has in the two-task head.
        mask_kernel_size: Kernel size of the mask branch's first convolution: 1 as released, or 3
            like the other branches, which the paper states for every branch (section 3.3).
        norm_cfg: Normalization after the hidden convolutions.
        decode_at: The cell whose offset and size form the box during training: 'prediction', the
            most probable one (Eq. 5, as released), or 'target', the cell of the true center.
            Prediction always uses the most probable one.
        clamp_center: See :func:`center_heatmaps`.
        prior_prob: Initial probability of the center and mask branches. The last convolution of
            the mask then starts as the identity. Both help training from scratch. None uses
            biases of 0 and a random kernel, as released.
        loss_center: Focal loss of the center heat map.
        loss_bbox: Loss of normalized XYXY boxes.
        loss_iou: Overlap loss of normalized XYXY boxes.
        loss_mask: Pixel loss of the mask logits.
        loss_dice: Overlap loss of the mask logits.
        det_weight: lambda_det of Eq. 7.
        seg_weight: lambda_seg of Eq. 7.

    Raises:
        ValueError: If a task is unknown or occurs twice, or the three box tasks are incomplete.
    """

    branches: Any  # an nn.ModuleDict of nn.Sequential, by task

    @classmethod
    def weight_semantics(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return each task's channels; see :mod:`projects.common.weights.semantics`."""
        groups = arguments['groups']
        width = arguments['group_channels'] or arguments['in_channels'] // len(groups)
        return {
            f'groups (channels of {task!r})': f'{i * width} to {(i + 1) * width - 1}'
            for i, group in enumerate(groups)
            for task in group
        }

    def __init__(
        self,
        in_channels: int = 512,
        patch_size: int = 16,
        groups: Sequence[Sequence[str]] = (('center', 'mask'), ('offset', 'size')),
        group_channels: int | None = None,
        mask_kernel_size: int = 1,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006
        decode_at: str = 'prediction',
        clamp_center: bool = True,
        prior_prob: float | None = None,
        loss_center: dict = dict(type='CenterFocalLoss'),  # noqa: B006
        loss_bbox: dict = dict(type='mmdet.L1Loss'),  # noqa: B006
        loss_iou: dict = dict(type='mmdet.GIoULoss'),  # noqa: B006
        loss_mask: dict = dict(type='mmdet.FocalLoss'),  # noqa: B006
        loss_dice: dict = dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0),  # noqa: B006
        det_weight: float = 0.1,
        seg_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.groups = tuple(tuple(group) for group in groups)
        self.tasks = _check_tasks(self.groups)
        if decode_at not in ('prediction', 'target'):
            raise InputError(f"head.decode_at: {decode_at!r}; expected 'prediction' or 'target'")
        self.group_channels = _group_width(in_channels, group_channels, len(self.groups))
        self.patch_size = patch_size
        self.decode_at = decode_at
        self.clamp_center = clamp_center
        self.prior_prob = prior_prob
        self.det_weight = det_weight
        self.seg_weight = seg_weight
        self.stems = nn.ModuleList(
            _conv(self.group_channels, self.group_channels, 3, norm_cfg) for _ in self.groups
        )
        self.branches = nn.ModuleDict(
            {
                task: _branch(task, self.group_channels, patch_size, mask_kernel_size, norm_cfg)
                for task in self.tasks
            }
        )
        if self.predicts_boxes:
            self.loss_center = MODELS.build(loss_center)
            self.loss_bbox = MODELS.build(loss_bbox)
            self.loss_iou = MODELS.build(loss_iou)
        if self.predicts_masks:
            self.loss_mask = MODELS.build(loss_mask)
            self.loss_dice = MODELS.build(loss_dice)

    @property
    def predicts_boxes(self) -> bool:
        """Return whether the head predicts boxes."""
        return 'center' in self.tasks

    @property
    def predicts_masks(self) -> bool:
        """Return whether the head predicts masks."""
        return 'mask' in self.tasks

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs of all tasks from a feature map.

        Args:
            features: (B, in_channels, h, w).

        Returns:
            Those of the following that the head predicts:

            - 'center': (B, 1, h, w), logits of the center;
            - 'offset': (B, 2, h, w), x and y from the cell to the center, in cells;
            - 'size': (B, 2, h, w), logits of the width and height, normalized by the image size;
            - 'mask': (B, 1, h * P, w * P), logits of the mask.
        """
        parts = features.split(self.group_channels, dim=1)[: len(self.groups)]
        outputs = {}
        for group, stem, part in zip(self.groups, self.stems, parts, strict=True):
            shared = stem(part)
            for task in group:
                outputs[task] = self.branches[task](shared)
        return outputs

    def prediction_layers(self) -> list[nn.Module]:
        """Return the last layer of every task's branch (see tools/preflight.py)."""
        return [branch[-1] for branch in self.branches.values()]

    def decode(
        self, outputs: dict[str, Tensor], cells: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode boxes from the maps (Eq. 5).

        Args:
            outputs: Outputs of :meth:`forward`.
            cells: (B,) flat index of the cell to read; the most probable one by default.

        Returns:
            Boxes (B, 4), normalized cx cy w h, and their scores (B,).
        """
        width, height = outputs['center'].shape[3], outputs['center'].shape[2]
        prob = _probability(outputs['center']).flatten(1)
        if cells is None:
            cells = prob.argmax(1)
        score = prob.gather(1, cells[:, None])[:, 0]
        at = cells[:, None, None].expand(-1, 2, 1)
        offset = outputs['offset'].flatten(2).gather(2, at)[..., 0]
        size = _probability(outputs['size'].flatten(2).gather(2, at)[..., 0])
        row, column = _place(cells, height, width)
        center_x = (column + offset[:, 0]) / width
        center_y = (row + offset[:, 1]) / height
        return torch.cat((torch.stack((center_x, center_y), dim=1), size), dim=1), score

    def predict(self, features: Tensor) -> dict[str, Tensor]:
        """Predict boxes, scores and mask probabilities from a feature map.

        Args:
            features: (B, in_channels, h, w).

        Returns:
            Those that the head predicts of 'boxes_norm' (B, 4), normalized XYXY clamped to the
            image; 'scores' (B,); 'score_maps' (B, h, w); 'mask_probs' (B, h * P, w * P).
        """
        outputs = {task: output.float() for task, output in self(features).items()}
        results = {}
        if self.predicts_boxes:
            boxes, results['scores'] = self.decode(outputs)
            results['boxes_norm'] = box_convert(boxes, 'cxcywh', 'xyxy').clamp(0, 1)
            results['score_maps'] = _probability(outputs['center'])[:, 0]
        if self.predicts_masks:
            results['mask_probs'] = outputs['mask'][:, 0].sigmoid()
        return results

    def loss(
        self,
        features: Tensor,
        boxes_norm: Tensor,
        masks: Tensor | None = None,
        with_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute L_det and L_seg of Eq. 6, weighted by Eq. 7, in float32 even under autocast.

        Args:
            features: (B, in_channels, h, w).
            boxes_norm: (B, 4), normalized XYXY.
            masks: (B, H, W), 0 or 1; resized to the predicted mask.
            with_mask: (B,) bool, False for samples whose mask is unknown; None if all are known.

        Returns:
            Those of ``loss_center``, ``loss_bbox``, ``loss_iou``, ``loss_mask`` and ``loss_dice``
            whose tasks the head has.

        Raises:
            ValueError: If the head predicts masks and ``masks`` is None.
        """
        outputs = self(features)
        with torch.autocast(features.device.type, enabled=False):
            outputs = {task: output.float() for task, output in outputs.items()}
            losses = {}
            if self.predicts_boxes:
                losses.update(self._loss_boxes(outputs, boxes_norm.float()))
            if self.predicts_masks:
                if masks is None:
                    raise InputError('head.loss: no masks, which the head learns from')
                losses.update(self._loss_masks(outputs['mask'], masks, with_mask))
        return losses

    def _loss_boxes(self, outputs: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
        targets = box_convert(boxes, 'xyxy', 'cxcywh')
        heatmaps = center_heatmaps(targets, outputs['center'].shape[2:], self.clamp_center)
        cells = heatmaps.flatten(1).argmax(1) if self.decode_at == 'target' else None
        decoded = box_convert(self.decode(outputs, cells)[0], 'cxcywh', 'xyxy')
        prob = _probability(outputs['center'])[:, 0]
        return {
            'loss_center': self.det_weight * self.loss_center(prob, heatmaps),
            'loss_bbox': self.det_weight * self.loss_bbox(decoded, boxes),
            'loss_iou': self.det_weight * self.loss_iou(decoded, boxes),
        }

    def _loss_masks(
        self, logits: Tensor, masks: Tensor, with_mask: Tensor | None
    ) -> dict[str, Tensor]:
        return mask_losses(
            logits, masks, with_mask, self.loss_mask, self.loss_dice, self.seg_weight
        )

    def init_weights(self) -> None:
        """Initialize convolutions Xavier-uniformly, as released, and apply ``prior_prob``."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.get_parameter('bias'))
        if self.prior_prob is not None:
            for task in {'center', 'mask'}.intersection(self.tasks):
                nn.init.constant_(
                    self.branches[task][-1].bias, bias_init_with_prob(self.prior_prob)
                )
            if self.predicts_masks:
                nn.init.dirac_(self.branches['mask'][-1].weight)
        super().init_weights()


def _conv(in_channels: int, out_channels: int, kernel: int, norm_cfg: dict) -> ConvModule:
    """Build a convolution with a bias, as the released weights have it, a norm and a ReLU."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Unnecessary conv bias')
        return ConvModule(
            in_channels,
            out_channels,
            kernel,
            padding=kernel // 2,
            bias=True,
            norm_cfg=norm_cfg,
        )


def _branch(
    task: str, channels: int, patch_size: int, mask_kernel_size: int, norm_cfg: dict
) -> nn.Sequential:
    """Build the layers of one task behind the stem of its group."""
    if task == 'mask':  # each token becomes a patch of pixels
        return nn.Sequential(
            _conv(channels, patch_size**2, mask_kernel_size, norm_cfg),
            nn.PixelShuffle(patch_size),
            nn.Conv2d(1, 1, 5, padding=2),
        )
    return nn.Sequential(
        _conv(channels, channels // 2, 3, norm_cfg),
        nn.Conv2d(channels // 2, 1 if task == 'center' else 2, 1),
    )


def _place(cells: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return row and column of flat cells (B,) in a grid."""
    if isinstance(width, torch.SymInt):  # a graph for any size has no remainder of a symbol
        rows = torch.arange(height, device=cells.device)[:, None].expand(height, width)
        columns = torch.arange(width, device=cells.device)[None].expand(height, width)
        return rows.flatten()[cells], columns.flatten()[cells]
    return cells.div(width, rounding_mode='floor'), cells % width


def _probability(logits: Tensor) -> Tensor:
    """Apply a sigmoid that stays away from 0 and 1, as released."""
    return logits.sigmoid().clamp(1e-4, 1 - 1e-4)


def _group_width(in_channels: int, group_channels: int | None, groups: int) -> int:
    """Return the number of channels of each group, after checking that they are there."""
    if group_channels is None:
        if in_channels % groups:
            raise InputError(
                f'head.in_channels: {in_channels} is no multiple of the {groups} groups'
            )
        return in_channels // groups
    if group_channels * groups > in_channels:
        raise InputError(
            f'head.group_channels: {groups} groups of {group_channels} channels, '
            f'but in_channels is {in_channels}'
        )
    return group_channels


def _check_tasks(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    tasks = tuple(task for group in groups for task in group)
    for task in tasks:
        if task not in TASKS:
            raise InputError(f'head.groups: unknown task {task!r}; expected one of {TASKS}')
        if tasks.count(task) > 1:
            raise InputError(f'head.groups: {task!r} stands {tasks.count(task)} times')
    boxes = [task for task in TASKS[:3] if task in tasks]
    if len(boxes) not in (0, 3) or not tasks:
        raise InputError(
            f'head.groups: {tasks or "no task"}; expected center, offset and size together, '
            'mask, or all four'
        )
    return tasks
