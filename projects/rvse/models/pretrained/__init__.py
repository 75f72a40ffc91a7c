"""Pretrained encoders of other makers as the two sides of a matcher."""

from .class_names import ClassNameMatcher
from .efficientnet_lite import EfficientNetLite
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
