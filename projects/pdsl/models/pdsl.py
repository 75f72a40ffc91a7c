"""The detector (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import FastRCNN
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from projects.common.errors import InputError

from ..cues.base import crops_of
from .cue_targets import PseudoMasks, Seeds
from .feature_map_checks import check_maps
from .gradient_masks import threshold_heatmaps


def use_no_cue(model: ConfigDict) -> None:
    """Change a PDSL's config for prediction, which needs neither a cue nor its files."""
    if model.get('cue') is not None:
        model.learning, model.cue = 'cascade', None


@MODELS.register_module()
class PDSL(FastRCNN):
    """Learn detection and segmentation in parallel from image-level tags.

    mmdet's Fast R-CNN with :class:`PDSLRoIHead`. Every data sample carries ``proposals``, an
    ``InstanceData`` of ``bboxes`` (n, 4), XYXY in pixels of the input, and ``scores`` (n,); while
    training its metainfo says which classes are there (``tags``). Arguments that are not named
    here are mmdet's.

    Args:
        cue: Bottom-up cue: a config of a registered one or any callable ``cue(image, boxes,
            metainfo)`` that makes bool masks (s, H, W) of an image (H, W, 3), uint8 BGR, and
            boxes (s, 4). Parallel learning needs it.
        learning: 'parallel', pseudo masks from the cue, or 'cascade', pseudo masks from the
            detections: from the gradient of a seed's class score with respect to the image.

    Any backbone will do whose maps have the channels and strides of the RoI extractors.

    Raises:
        ValueError: ``learning`` is neither, or parallel learning of masks has no cue.
    """

    def __init__(
        self,
        backbone: dict,
        roi_head: dict,
        cue: dict | Callable | None = None,
        learning: str = 'parallel',
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        if learning not in ('parallel', 'cascade'):
            raise InputError(f"model.learning: {learning!r}; expected 'parallel' or 'cascade'")
        super().__init__(
            backbone=backbone, roi_head=roi_head, train_cfg=train_cfg, test_cfg=test_cfg, **kwargs
        )
        self.learning = learning
        self.cue: Any = MODELS.build(cue) if isinstance(cue, dict) else cue
        learns_masks = self.with_mask and self.roi_head.loss_mask is not None
        if learning == 'parallel' and learns_masks and self.cue is None:
            raise InputError('model.cue: None; parallel learning of masks needs one (GrabCutCue)')

    @staticmethod
    def _proposals(batch_data_samples: SampleList) -> list[InstanceData]:
        proposals = []
        for sample in batch_data_samples:
            if sample.get('proposals', None) is None:
                raise InputError(
                    f'data sample of {sample.metainfo.get("img_path", "an image")}: no '
                    "'proposals'; expected InstanceData(bboxes, scores)"
                )
            proposals.append(sample.proposals)
        return proposals

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of images (B, 3, H, W).

        Raises:
            ValueError: A map does not have the channels or the stride of the RoI extractors.
        """
        maps = super().extract_feat(batch_inputs)
        backbone = type(self.backbone).__name__
        for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
            extractor = getattr(self.roi_head, name, None)
            if extractor is not None:
                check_maps(maps, batch_inputs.shape[2:], extractor, name, backbone)
        return maps

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the losses of images (B, 3, H, W); see :class:`PDSLRoIHead`."""

        proposals = self._proposals(batch_data_samples)
        masks: PseudoMasks | None = None
        if self.learning == 'cascade':
            masks = _MasksOfDetections(self, batch_inputs, batch_data_samples)
        elif self.cue is not None and self.roi_head.loss_mask is not None:
            # before the network, which it would otherwise wait for
            masks = _MasksOfCue(self.cue, self._pictures(batch_inputs), batch_data_samples)
        features = self.extract_feat(batch_inputs)
        return self.roi_head.loss(features, proposals, batch_data_samples, masks)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Add ``pred_instances`` with boxes, scores, labels and masks; see mmdet's method."""
        self._proposals(batch_data_samples)
        return super().predict(batch_inputs, batch_data_samples, rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        self._proposals(batch_data_samples)
        return super()._forward(batch_inputs, batch_data_samples)

    def _pictures(self, images: Tensor) -> np.ndarray:
        """Undo the data preprocessor: return images as (B, H, W, 3), uint8 BGR."""
        processor = self.data_preprocessor
        if getattr(processor, '_enable_normalize', False):
            images = images * processor.std + processor.mean
        if getattr(processor, '_channel_conversion', False):
            images = images.flip(1)
        pixels = images.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        return pixels.contiguous().cpu().numpy()

    def detection_masks(self, image: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Pseudo masks of cascade learning.

        Args:
            image: (3, H, W), normalised.
            boxes: (k, 4), XYXY in pixels.
            labels: (k,), the class that is asked for in each box.

        Returns:
            (k, H, W) bool.
        """
        training = self.training
        self.eval()  # neither dropout nor running means take part
        image = image.detach()[None].clone().requires_grad_()
        heat = []
        with torch.enable_grad():
            logits = self.roi_head.class_logits(self.extract_feat(image), boxes)
            for row, label in enumerate(labels.tolist()):
                (gradient,) = torch.autograd.grad(logits[row, label], image, retain_graph=True)
                heat.append(gradient[0].abs().amax(0))
        self.train(training)
        return threshold_heatmaps(torch.stack(heat), boxes)


@dataclass
class _MasksOfDetections:
    """Make masks of seeds from the gradients of their scores."""

    model: PDSL
    images: Tensor
    samples: SampleList

    def __call__(self, index: int, boxes: Tensor, labels: Tensor) -> Tensor:
        height, width = self.samples[index].metainfo['img_shape'][:2]
        image = self.images[index, :, :height, :width]
        return self.model.detection_masks(image, boxes.to(image.device), labels)


@dataclass
class _MasksOfCue:
    """Make masks of seeds from pictures (B, H, W, 3), or only what is learnt of them."""

    cue: Callable
    pictures: np.ndarray
    samples: SampleList

    def __call__(self, index: int, boxes: Tensor, labels: Tensor) -> Tensor:
        picture, metainfo = self._inputs(index)
        return torch.as_tensor(np.asarray(self.cue(picture, boxes.numpy(), metainfo)))

    def crops(self, index: int, seeds: Seeds, size: int) -> Tensor:
        """Make targets (m, size, size); runs in another thread than the network."""
        if not len(seeds.rois):
            return seeds.rois.new_zeros(0, size, size)
        crops = getattr(self.cue, 'crops', None) or partial(crops_of, self.cue)
        boxes, rois, nearest = (each.numpy() for each in (seeds.boxes, seeds.rois, seeds.nearest))
        picture, metainfo = self._inputs(index)
        return torch.from_numpy(crops(picture, boxes, metainfo, rois, nearest, size))

    def _inputs(self, index: int) -> tuple[np.ndarray, dict]:
        metainfo = self.samples[index].metainfo
        height, width = metainfo['img_shape'][:2]
        return np.ascontiguousarray(self.pictures[index, :height, :width]), metainfo
