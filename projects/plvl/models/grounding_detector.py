"""Base class of detectors that ground one sentence in one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from projects.common.errors import InputError
from projects.common.speed.transfer import to_device


class GroundingDetector(BaseDetector):
    """Combine a text encoder, a visual backbone, a decoder and a head.

    Every sample is one image, stretched to the size of the batch, with the sentence in its metainfo
    (``text``). Training also needs ``gt_instances.bboxes`` (1, 4) in pixels of the stretched
    image and ``gt_instances.masks``, unless the metainfo ``with_mask`` is False.

    Args:
        text_encoder: See :class:`projects.common.text.BERTTextEncoder`.
        backbone: Computes visual tokens (B, h, w, C) from images, language tokens, their mask and
            the ``repeats`` of :meth:`extract_feat`.
        decoder: Computes the input of the head from visual tokens, language tokens and their mask.
        head: Provides ``forward``, ``loss`` and ``predict`` like :class:`CollaborativeHead`.
    """

    optional_in_fine_tuning: ClassVar[dict[str, str]] = {
        r'head\.': 'parts of the head, which start anew for another task'
    }

    def __init__(
        self,
        text_encoder: dict,
        backbone: dict,
        decoder: dict,
        head: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.text_encoder = MODELS.build(text_encoder)
        self.backbone = MODELS.build(backbone)
        self.decoder = MODELS.build(decoder)
        self.head = MODELS.build(head)

    def extract_feat(
        self,
        images: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        repeats: Tensor | None = None,
    ) -> Any:
        """Compute the decoder's output for images and sentences.

        Args:
            images: (B, 3, H, W), normalized.
            input_ids: (B, L).
            attention_mask: (B, L), 0 on padding.
            repeats: (I,), how many of the B sentences refer to each of I images. ``images`` is then
                (I, 3, H, W). None means one each.

        Returns:
            The input of the head; for PLVL, the fused features (B, C, H / P, W / P).
        """
        text = self.text_encoder(input_ids, attention_mask)
        visual = self.backbone(images, text, attention_mask, repeats)
        return self.decoder(visual, text, attention_mask)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the head's losses for images (B, 3, H, W)."""
        (height, width), device = batch_inputs.shape[2:], batch_inputs.device
        tokens, targets = self._read_samples(batch_data_samples, height, width, device)
        return self.head.loss(self.extract_feat(batch_inputs, *tokens), *targets)

    @torch.compiler.disable
    def _read_samples(
        self, samples: SampleList, height: int, width: int, device: torch.device
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor | None, Tensor | None]]:
        """Copy tokens and targets to the device, each in one piece.

        Returns:
            The ids and mask of the tokens, and the targets of the head's loss. Which masks are
            known stays on the host.
        """
        instances = [sample.gt_instances for sample in samples]
        for sample, instance in zip(samples, instances):
            if len(instance) != 1:
                raise InputError(
                    f'{sample.get("img_path")}, {sample.text!r}: found {len(instance)} objects; '
                    f'{type(self).__name__} expects one (GeneralizedPLVL takes any number)'
                )
        boxes = torch.cat([get_box_tensor(instance.bboxes)[:1] for instance in instances])
        boxes = to_device(boxes / boxes.new_tensor([width, height, width, height]), device)
        masks = with_mask = None
        if self.head.predicts_masks:
            masks = to_device(
                torch.stack([i.masks.to_tensor(torch.uint8, 'cpu')[0] for i in instances]), device
            )
            known = torch.tensor([sample.get('with_mask', True) for sample in samples])
            with_mask = None if known.all() else known
        return self._tokenize(samples), (boxes, masks, with_mask)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Add predictions in pixels of the original image to the samples.

        Each sample gets ``pred_instances`` with one instance: ``bboxes`` (1, 4) XYXY, ``scores``
        (1,), ``labels`` (1,), ``masks`` (1, H, W) bool; ``pred_score_map`` (h, w), the probability
        of the center in every cell; ``pred_mask_probs`` (H_in, W_in), the mask probability of every
        pixel of the stretched image. A head for one task omits the fields of the other. The score
        is the probability of the center, or, for a head without centers, the mean probability of
        the mask's pixels.

        Computation that depends only on the image is shared by consecutive samples with the same
        image, such as several sentences about it.

        Args:
            batch_inputs: (B, 3, H, W), normalized.
            batch_data_samples: Samples with ``text`` and ``ori_shape`` in their metainfo.
            rescale: Return boxes and masks in the original image instead of the stretched one.
        """
        images, repeats = merge_equal_neighbours(batch_inputs)
        features = self.extract_feat(images, *self._tokenize(batch_data_samples), repeats)
        results = self.head.predict(features)
        for i, sample in enumerate(batch_data_samples):
            height, width = sample.ori_shape if rescale else batch_inputs.shape[2:]
            prediction = InstanceData()
            if self.head.predicts_boxes:
                boxes = results['boxes_norm'][i : i + 1]
                prediction.bboxes = boxes * boxes.new_tensor([width, height, width, height])
            if 'scores' in results:
                prediction.scores = results['scores'][i : i + 1]
                sample.set_field(results['score_maps'][i], 'pred_score_map')
            if self.head.predicts_masks:
                prob = results['mask_probs'][i]
                resized = F.interpolate(prob[None, None], (height, width), mode='bilinear')[0]
                prediction.masks = resized >= 0.5
                if 'scores' not in results:
                    inside = prob[prob >= 0.5]
                    score = inside.mean() if inside.numel() else prob.max()
                    prediction.scores = score[None]
                sample.set_field(prob, 'pred_mask_probs')
            prediction.labels = torch.zeros_like(prediction.scores, dtype=torch.long)
            sample.pred_instances = prediction
        return batch_data_samples

    def _forward(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the head's raw outputs.

        The sentences are passed in the samples' metainfo or as token ids (B, L) and mask (B, L).
        """
        if input_ids is None or attention_mask is None:
            if batch_data_samples is None:
                raise InputError('neither data samples with sentences nor token ids are given')
            input_ids, attention_mask = self._tokenize(batch_data_samples)
        return self.head(self.extract_feat(batch_inputs, input_ids, attention_mask))

    def _tokenize(self, samples: Sequence) -> tuple[Tensor, Tensor]:
        return self.text_encoder.tokenize([sample.text for sample in samples])


def merge_equal_neighbours(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Merge equal consecutive images (B, 3, H, W) into (I, 3, H, W) and count them.

    The counts are (I,), or None if no two neighbors are equal.
    """
    changes = (images[1:] != images[:-1]).flatten(1).any(1)
    if changes.all():
        return images, None
    starts = F.pad(changes, (1, 0), value=True).nonzero()[:, 0]
    return images[starts], starts.diff(append=starts.new_tensor([len(images)]))
