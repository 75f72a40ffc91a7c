"""RoIPool on any device."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.utils import _pair
from torchvision.ops import RoIPool

__all__ = ['PortableRoIExtractor']


@MODELS.register_module()
class PortableRoIExtractor(SingleRoIExtractor):
    """mmdet's extractor of RoI features, whose ``RoIPool`` also runs without a GPU.

    mmcv's RoIPool has no implementation for CPUs; torchvision's runs on both, so that a model
    gives the same wherever it is. Other layers remain mmcv's. Arguments are mmdet's.
    """

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: Sequence[int]) -> nn.ModuleList:
        if layer_cfg['type'] != 'RoIPool':
            return super().build_roi_layers(layer_cfg, featmap_strides)
        unknown = set(layer_cfg) - {'type', 'output_size'}
        if unknown:
            raise ValueError(f'roi_layer: RoIPool has no {sorted(unknown)}; expected output_size')
        size = _pair(layer_cfg['output_size'])
        return nn.ModuleList(RoIPool(size, 1 / stride) for stride in featmap_strides)
