"""RoIPool on any device."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.utils import _pair
from torchvision.ops import RoIPool

from .errors import InputError

__all__ = ['PortableRoIExtractor']


@MODELS.register_module()
class PortableRoIExtractor(SingleRoIExtractor):
    """mmdet's extractor of RoI features, whose ``RoIPool`` also runs without a GPU.

    It is torchvision's on every device. mmcv's has no implementation for CPUs, and on GPUs it
    pools other cells: where Fast R-CNN, torchvision and the released code round a box's corners
    to cells, mmcv's kernel takes them as they are, the lower right one a pixel further. A model
    trained with one on a GPU would see other features with the other on a CPU. Other layers
    remain mmcv's. Arguments are mmdet's.
    """

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: Sequence[int]) -> nn.ModuleList:
        """One layer per stride.

        Raises:
            ValueError: ``RoIPool`` is given more than ``output_size``.
        """
        if layer_cfg['type'] != 'RoIPool':
            return super().build_roi_layers(layer_cfg, featmap_strides)
        unknown = set(layer_cfg) - {'type', 'output_size'}
        if unknown:
            raise InputError(f'roi_layer: RoIPool has no {sorted(unknown)}; expected output_size')
        size = _pair(layer_cfg['output_size'])
        return nn.ModuleList(RoIPool(size, 1 / stride) for stride in featmap_strides)
