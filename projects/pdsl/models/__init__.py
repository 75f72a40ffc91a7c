"""Detector, heads, losses and pseudo labels; importing registers them."""

import projects.common.stack  # first, to silence the libraries

# isort: split
import projects.common.roi_pool  # noqa: F401

from .box_head import PDSLBoxHead
from .dan_neck import DANNeck
from .losses import InstanceCorrelationLoss, MILLoss, PseudoMaskLoss, RefinementLoss
from .mask_head import PDSLMaskHead
from .pdsl import PDSL, use_no_cue
from .pseudo_labels import OverlapAssigner, SelfTrainingMiner, TopBoxMiner
from .resnet_ws import ResNetWS
from .roi_head import PDSLRoIHead
from .tta import PDSLTTAModel

__all__ = [
    'DANNeck',
    'InstanceCorrelationLoss',
    'MILLoss',
    'OverlapAssigner',
    'PDSL',
    'PDSLBoxHead',
    'PDSLMaskHead',
    'PDSLRoIHead',
    'PDSLTTAModel',
    'PseudoMaskLoss',
    'RefinementLoss',
    'ResNetWS',
    'SelfTrainingMiner',
    'TopBoxMiner',
    'use_no_cue',
]
