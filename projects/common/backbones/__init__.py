"""Backbones of timm, torchvision and transformers, whose feature maps any detector can take."""

from .timm_maps import TimmFeatureMaps
from .torchvision_maps import TorchvisionFeatureMaps, torchvision_model
from .transformers_maps import TransformersFeatureMaps

__all__ = [
    'TimmFeatureMaps',
    'TorchvisionFeatureMaps',
    'TransformersFeatureMaps',
    'torchvision_model',
]
