"""Pretrained encoders of other makers as the two sides of a matcher."""

from projects.common.backbones.efficientnet_lite import EfficientNetLite

from .class_names import ClassNameMatcher
from .image import TransformersImageEncoder
from .region_mean import RegionMean
from .text import TransformersTextEncoder
from .torchvision_backbone import TorchvisionBackbone

__all__ = [
    'ClassNameMatcher',
    'EfficientNetLite',
    'RegionMean',
    'TorchvisionBackbone',
    'TransformersImageEncoder',
    'TransformersTextEncoder',
]
