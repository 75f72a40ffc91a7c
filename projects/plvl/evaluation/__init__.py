"""Accuracy of boxes, IoU of masks, and where a model fails."""

from .grounding_metric import GroundingMetric

__all__ = ['GroundingMetric']
