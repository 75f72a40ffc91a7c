"""Box accuracy, mask IoU and failure analysis for grounding models."""

from .generalized_metric import GeneralizedGroundingMetric
from .grounding_metric import GroundingMetric

__all__ = ['GeneralizedGroundingMetric', 'GroundingMetric']
