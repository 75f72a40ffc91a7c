"""What stands between the pixels of a file and a model: data preprocessor and test pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError

__all__ = ['Normalization', 'resize_steps']


class Normalization(nn.Module):
    """Normalize RGB images like the data preprocessor of a model, which reads BGR.

    Args:
        preprocessor: An mmengine or mmdet image preprocessor.

    Raises:
        InputError: It is of another kind.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any) -> None:
        super().__init__()
        if not hasattr(preprocessor, '_channel_conversion'):
            raise InputError(
                f'data_preprocessor {type(preprocessor).__name__}: expected one like '
                'ImgDataPreprocessor of MMEngine'
            )
        # Pipelines load BGR, and the model reads BGR if the preprocessor does not convert it.
        self.flip_channels = not preprocessor._channel_conversion
        enabled = preprocessor._enable_normalize
        one = torch.ones(3, 1, 1)
        self.register_buffer('mean', (preprocessor.mean if enabled else 0 * one).clone())
        self.register_buffer('std', (preprocessor.std if enabled else one).clone())

    def forward(self, image: Tensor) -> Tensor:
        """Normalize images (B, 3, H, W), RGB from 0 to 255."""
        image = image.flip(1) if self.flip_channels else image
        return (image - self.mean) / self.std

    def described(self) -> dict[str, list[float]]:
        """Return ``mean`` and ``std`` in the order of RGB, for the description."""
        order = slice(None, None, -1) if self.flip_channels else slice(None)
        return {name: getattr(self, name).flatten().tolist()[order] for name in ('mean', 'std')}


def resize_steps(transforms: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the steps of a test pipeline that change pixels, for :mod:`.images`.

    Args:
        transforms: Built transforms, without those that load or pack.

    Raises:
        InputError: A transform is not known there.
    """
    steps: list[dict[str, Any]] = []
    for transform in transforms:
        name = type(transform).__name__
        if name in ('Resize', 'GroundingResize') and not getattr(transform, 'scale_factor', None):
            size = [int(side) for side in transform.scale]
            if getattr(transform, 'align_corners', False):
                steps.append(dict(step='align_corners', size=size))
                continue
            kept = bool(transform.keep_ratio)
            steps.append(dict(step='scale', size=size, keep_ratio=kept, **_filter(transform)))
        elif name == 'ResizeEdge':
            length = int(transform.scale)
            steps.append(
                dict(step='edge', length=length, edge=transform.edge, **_filter(transform))
            )
        elif name == 'CenterCrop' and not transform.auto_pad:
            steps.append(dict(step='center_crop', size=[int(side) for side in transform.crop_size]))
        else:
            raise InputError(
                f'test pipeline: {name} cannot be exported; expected Resize, GroundingResize, '
                'ResizeEdge and CenterCrop'
            )
    return steps


def _filter(transform: Any) -> dict[str, str]:
    backend, interpolation = transform.backend, transform.interpolation
    known = {'cv2': ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos'),
             'pillow': ('nearest', 'bilinear', 'bicubic')}  # fmt: skip
    if interpolation not in known.get(backend, ()):
        raise InputError(
            f'test pipeline: {type(transform).__name__} with backend={backend!r} and '
            f'interpolation={interpolation!r} cannot be exported; expected one of {known}'
        )
    return dict(backend=backend, interpolation=interpolation)
