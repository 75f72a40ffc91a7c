"""Metrics for weakly supervised instance segmentation."""

import projects.common.stack  # noqa: F401  first, to silence the libraries

from .coco_metric import InstanceCocoMetric
from .corloc_metric import CorLocMetric
from .tag_metric import TagMetric

__all__ = ['CorLocMetric', 'InstanceCocoMetric', 'TagMetric']
