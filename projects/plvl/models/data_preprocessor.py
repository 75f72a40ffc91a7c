"""Data preprocessing that copies a batch to the device in one piece."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from projects.common.speed.transfer import to_device


@MODELS.register_module()
class GroundingDataPreprocessor(DetDataPreprocessor):
    """Normalize images of one size as one batch, and leave the samples on the host.

    mmdet's class copies every image, box and label separately and waits for each. Here the ground
    truth stays where it is: the detector copies what its losses need, and metrics and visualizers
    need it on the host. Arguments and results are otherwise those of ``mmdet.DetDataPreprocessor``,
    to the bit. Images of different sizes are padded by it. Augmentations of the batch
    (``batch_augments``) receive the samples on the host.
    """

    def cast_data(self, data: Any) -> Any:
        """Copy tensors to the device, but not samples."""
        return data if isinstance(data, BaseDataElement) else super().cast_data(data)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalize and stack the images.

        Args:
            data: 'inputs', images (3, H, W) or a batch (B, 3, H, W); 'data_samples', which may be
                None.
            training: Whether to pad the masks of the samples as well.

        Returns:
            'inputs' (B, 3, H, W) float32 on the device, and 'data_samples'.
        """
        images = data['inputs']
        if not isinstance(images, torch.Tensor) and len({image.shape for image in images}) == 1:
            images = torch.stack(list(images))
        if isinstance(images, torch.Tensor):
            data = {**data, 'inputs': to_device(images, self.device)}
        return super().forward(data, training)
