"""A head for sentences that name no object, one or several."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.common.errors import InputError
from projects.common.speed.transfer import to_device

from .center_targets import center_heatmaps
from .collaborative_head import CollaborativeHead, _probability


@MODELS.register_module()
class PresenceHead(nn.Module):
    """Predict whether anything in the image fits the sentence.

    The mean and the maximum of every channel over the image pass a layer with ReLU and a linear
    one. The maximum finds a single cell that fits.

    Args:
        in_channels: Channels of the feature map.
        channels: Width of the hidden layer.
    """

    def __init__(self, in_channels: int, channels: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * in_channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits (B,) from a feature map (B, in_channels, h, w)."""
        pooled = torch.cat((features.mean((2, 3)), features.amax((2, 3))), dim=1)
        return self.layers(pooled)[:, 0]


@MODELS.register_module()
class GeneralizedHead(CollaborativeHead):
    """Extend :class:`CollaborativeHead` to none, one or several objects.

    Not in the paper, which has one object for each sentence. Three things are added:

    - :class:`PresenceHead`, trained by binary cross-entropy.
    - The center map has a Gaussian for every object. Its 3 x 3 maxima (CenterNet, Zhou et al.,
      2019) that reach ``score_thr`` are the predicted centers; each has its own offset and size.
    - The mask is that of all objects together, as in GRES (Liu et al., CVPR 2023).

    With one object for each sentence, the losses of center, box and mask are those of
    :class:`CollaborativeHead` with ``decode_at='target'``. Two objects whose centers round to the
    same cell cannot be told apart.

    Args:
        kwargs: Arguments of :class:`CollaborativeHead`. ``decode_at`` is 'target', since there is
            no single most probable cell.
        presence: Config of the module that predicts presence logits (B,) from the feature map.
        presence_weight: Weight of its loss.
        presence_thr: Least presence at which anything is predicted.
        score_thr: Least score of a center. The best center is predicted in any case if the
            presence reaches its threshold.
        max_objects: Most objects that are predicted for a sentence.

    Raises:
        ValueError: If ``decode_at`` is not 'target', or ``max_objects`` is not positive.
    """

    @classmethod
    def weight_semantics(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return each task's channels; see :mod:`projects.common.weights.semantics`."""
        parameters = inspect.signature(CollaborativeHead).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        return super().weight_semantics({**defaults, **arguments})

    def __init__(
        self,
        in_channels: int = 512,
        decode_at: str = 'target',
        presence: dict | None = None,
        presence_weight: float = 1.0,
        presence_thr: float = 0.5,
        score_thr: float = 0.3,
        max_objects: int = 20,
        **kwargs,
    ) -> None:
        if decode_at != 'target':
            raise InputError(f"head.decode_at: {decode_at!r}; GeneralizedHead expects 'target'")
        if max_objects < 1:
            raise InputError(f'head.max_objects: {max_objects}; expected at least 1')
        super().__init__(in_channels, decode_at=decode_at, **kwargs)
        presence = dict(type='PresenceHead') if presence is None else presence
        self.presence = MODELS.build(dict(in_channels=in_channels, **presence))
        self.presence_weight = presence_weight
        self.presence_thr = presence_thr
        self.score_thr = score_thr
        self.max_objects = max_objects

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Compute the maps of :class:`CollaborativeHead` and 'presence', logits (B,)."""
        return {**super().forward(features), 'presence': self.presence(features)}

    def predict(self, features: Tensor) -> dict:
        """Predict presence, boxes, scores and mask probabilities from a feature map.

        Args:
            features: (B, in_channels, h, w).

        Returns:
            'presence' (B,), probabilities that something fits, and those that the head predicts of
            'boxes_norm', a list of (n, 4) normalized XYXY clamped to the image; 'scores', a list
            of (n,), highest first; 'score_maps' (B, h, w); 'mask_probs' (B, h * P, w * P). Where
            the presence is below its threshold, n is 0.
        """
        outputs = {name: output.float() for name, output in self(features).items()}
        results: dict = {'presence': outputs['presence'].sigmoid()}
        if self.predicts_boxes:
            score_maps = _probability(outputs['center'])
            results['score_maps'] = score_maps[:, 0]
            present = results['presence'] >= self.presence_thr
            results['boxes_norm'], results['scores'] = self._find(outputs, score_maps, present)
        if self.predicts_masks:
            results['mask_probs'] = outputs['mask'][:, 0].sigmoid()
        return results

    def _find(
        self, outputs: dict[str, Tensor], score_maps: Tensor, present: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the boxes and scores of the peaks of each center map (B, 1, h, w)."""
        highest = F.max_pool2d(score_maps, 3, stride=1, padding=1)
        peaks = torch.where(score_maps == highest, score_maps, 0).flatten(1)
        scores, cells = peaks.topk(min(self.max_objects, peaks.shape[1]), dim=1)
        counts = (scores >= self.score_thr).sum(1).clamp(min=1) * present
        boxes, found = [], []
        for i, count in enumerate(counts.tolist()):
            at = cells[i, :count]
            decoded = self._boxes_at(outputs, at.new_full((count,), i), at)
            boxes.append(box_convert(decoded, 'cxcywh', 'xyxy').clamp(0, 1))
            found.append(scores[i, :count])
        return boxes, found

    def _boxes_at(self, outputs: dict[str, Tensor], samples: Tensor, cells: Tensor) -> Tensor:
        """Decode boxes (n, 4), normalized cx cy w h, at flat cells (n,) of samples (n,) (Eq. 5)."""
        height, width = outputs['center'].shape[2:]
        offset = outputs['offset'].flatten(2)[samples, :, cells]
        size = _probability(outputs['size'].flatten(2)[samples, :, cells])
        x = (cells % width + offset[:, 0]) / width
        y = (cells.div(width, rounding_mode='floor') + offset[:, 1]) / height
        return torch.cat((torch.stack((x, y), dim=1), size), dim=1)

    def loss_of_objects(
        self,
        features: Tensor,
        boxes_norm: Tensor,
        counts: Sequence[int],
        masks: Tensor | None = None,
        with_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of any number of objects, in float32 even under autocast.

        Args:
            features: (B, in_channels, h, w).
            boxes_norm: (N, 4), normalized XYXY of all objects, in the order of the samples.
            counts: Number of objects of each sample, B numbers whose sum is N.
            masks: (B, H, W), 0 or 1, of all objects of a sample together.
            with_mask: (B,) bool, False for samples whose mask is unknown; None if all are known.

        Returns:
            ``loss_presence`` and the losses of :meth:`CollaborativeHead.loss`.

        Raises:
            ValueError: If the head predicts masks and ``masks`` is None.
        """
        outputs = self(features)
        with torch.autocast(features.device.type, enabled=False):
            outputs = {name: output.float() for name, output in outputs.items()}
            number = to_device(torch.tensor(counts), features.device)
            presence = F.binary_cross_entropy_with_logits(outputs['presence'], (number > 0).float())
            losses = {'loss_presence': self.presence_weight * presence}
            if self.predicts_boxes:
                losses.update(self._loss_objects(outputs, boxes_norm.float(), number))
            if self.predicts_masks:
                if masks is None:
                    raise InputError('head.loss: no masks, which the head learns from')
                losses.update(self._loss_masks(outputs['mask'], masks, with_mask))
        return losses

    def loss(
        self,
        features: Tensor,
        boxes_norm: Tensor,
        masks: Tensor | None = None,
        with_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of one object for each sample; see :meth:`CollaborativeHead.loss`."""
        return self.loss_of_objects(features, boxes_norm, [1] * len(features), masks, with_mask)

    def _loss_objects(
        self, outputs: dict[str, Tensor], boxes: Tensor, counts: Tensor
    ) -> dict[str, Tensor]:
        prob = _probability(outputs['center'])[:, 0]
        targets = box_convert(boxes, 'xyxy', 'cxcywh')
        each = center_heatmaps(targets, prob.shape[1:], self.clamp_center)  # (N, h, w)
        samples = torch.repeat_interleave(counts, output_size=len(boxes))  # (N,)
        # Where the Gaussians of a sample overlap, the higher one counts (CenterNet).
        index = samples[:, None, None].expand_as(each)
        heatmaps = torch.zeros_like(prob).scatter_reduce(0, index, each, 'amax')
        losses = {'loss_center': self.det_weight * self.loss_center(prob, heatmaps)}
        if not len(boxes):  # keep every parameter in the graph for DDP
            zero = (outputs['offset'].sum() + outputs['size'].sum()) * 0
            return {**losses, 'loss_bbox': zero, 'loss_iou': zero}
        cells = each.flatten(1).argmax(1)
        decoded = box_convert(self._boxes_at(outputs, samples, cells), 'cxcywh', 'xyxy')
        return {
            **losses,
            'loss_bbox': self.det_weight * self.loss_bbox(decoded, boxes),
            'loss_iou': self.det_weight * self.loss_iou(decoded, boxes),
        }
