"""Detector, heads, losses and pseudo labels; importing registers them."""

import projects.common.roi_pool  # noqa: F401

from .box_head import PDSLBoxHead
from .dan_neck import DANNeck
from .mask_head import PDSLMaskHead
from .pdsl import PDSL, use_no_cue
from .resnet_ws import ResNetWS
from .roi_head import PDSLRoIHead
from .tta import PDSLTTAModel

__all__ = [
    'DANNeck',
    'PDSL',
    'PDSLBoxHead',
    'PDSLMaskHead',
    'PDSLRoIHead',
    'PDSLTTAModel',
    'ResNetWS',
    'use_no_cue',
]
