"""PLVL for sentences that name no object, one or several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from projects.common.errors import InputError
from projects.common.speed.transfer import to_device

from .generalized_head import GeneralizedHead
from .grounding_detector import merge_equal_neighbours
from .plvl import PLVL


@MODELS.register_module()
class GeneralizedPLVL(PLVL):
    """Implement PLVL with :class:`GeneralizedHead`, for generalized referring expressions.

    Text encoder, backbone and decoder are those of :class:`PLVL`, whose weights they can start
    from. The dataset has ``targets='any'``: ``gt_instances`` of a sample may have any number of
    boxes and masks.

    Args:
        kwargs: Arguments of :class:`PLVL`; the head is :class:`GeneralizedHead`.

    Raises:
        ValueError: If the head is another one.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if not isinstance(self.head, GeneralizedHead):
            raise InputError(
                f'model.head: {type(self.head).__name__}; GeneralizedPLVL expects GeneralizedHead'
            )

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the head's losses for images (B, 3, H, W)."""
        targets = self._read_objects(batch_data_samples, batch_inputs)
        features = self.extract_feat(batch_inputs, *self._tokenize(batch_data_samples))
        return self.head.loss_of_objects(features, *targets)

    @torch.compiler.disable
    def _read_objects(
        self, samples: SampleList, images: Tensor
    ) -> tuple[Tensor, list[int], Tensor | None, Tensor | None]:
        """Copy all boxes and the mask of each sample to the device, each in one piece.

        Returns:
            Normalized boxes (N, 4); the number of objects of each sample; masks (B, H, W) of all
            objects of a sample together; and which masks are known, None for all.
        """
        (height, width), device = images.shape[2:], images.device
        instances = [sample.gt_instances for sample in samples]
        boxes = torch.cat([get_box_tensor(instance.bboxes) for instance in instances])
        boxes = to_device(boxes / boxes.new_tensor([width, height, width, height]), device)
        masks = with_mask = None
        if self.head.predicts_masks:
            union = [i.masks.to_tensor(torch.bool, 'cpu').any(0) for i in instances]
            masks = to_device(torch.stack(union).to(torch.uint8), device)
            known = torch.tensor([sample.get('with_mask', True) for sample in samples])
            with_mask = None if known.all() else known
        return boxes, [len(instance) for instance in instances], masks, with_mask

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Add predictions in pixels of the original image to the samples.

        Each sample gets ``pred_presence`` (1,), the probability that something fits, and, as far as
        the head predicts them, ``pred_instances`` with ``bboxes`` (n, 4) XYXY, ``scores`` (n,) and
        ``labels`` (n,); ``pred_score_map`` (h, w); ``pred_union_mask`` (1, H, W) bool, the pixels
        of all objects together; ``pred_mask_probs`` (H_in, W_in). If the presence is below the
        threshold of the head, n is 0 and the mask is empty.

        Args:
            batch_inputs: (B, 3, H, W), normalized.
            batch_data_samples: Samples with ``text`` and ``ori_shape`` in their metainfo.
            rescale: Return boxes and masks in the original image instead of the stretched one.
        """
        images, repeats = merge_equal_neighbours(batch_inputs)
        features = self.extract_feat(images, *self._tokenize(batch_data_samples), repeats)
        results = self.head.predict(features)
        present = (results['presence'] >= self.head.presence_thr).tolist()
        for i, sample in enumerate(batch_data_samples):
            height, width = sample.ori_shape if rescale else batch_inputs.shape[2:]
            sample.set_field(results['presence'][i : i + 1], 'pred_presence')
            sample.pred_instances = InstanceData()
            if self.head.predicts_boxes:
                boxes, scores = results['boxes_norm'][i], results['scores'][i]
                scale = boxes.new_tensor([width, height, width, height])
                labels = torch.zeros_like(scores, dtype=torch.long)
                sample.pred_instances = InstanceData(
                    bboxes=boxes * scale, scores=scores, labels=labels
                )
                sample.set_field(results['score_maps'][i], 'pred_score_map')
            if self.head.predicts_masks:
                prob = results['mask_probs'][i]
                resized = F.interpolate(prob[None, None], (height, width), mode='bilinear')[0]
                sample.set_field((resized >= 0.5) & present[i], 'pred_union_mask')
                sample.set_field(prob, 'pred_mask_probs')
        return batch_data_samples
