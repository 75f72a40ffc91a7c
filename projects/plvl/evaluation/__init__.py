"""Box accuracy, mask IoU and failure analysis for grounding models."""

from .grounding_metric import GroundingMetric

__all__ = ['GroundingMetric']
