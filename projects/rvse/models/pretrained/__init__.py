"""Pretrained encoders of other makers as the two sides of a matcher."""

from .image import TransformersImageEncoder
from .region_mean import RegionMean
from .text import TransformersTextEncoder

__all__ = ['RegionMean', 'TransformersImageEncoder', 'TransformersTextEncoder']
