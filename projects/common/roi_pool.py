"""RoIPool on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import RoIPool, roi_align

from .errors import InputError

__all__ = ['PortableRoIExtractor', 'onnx_translations']


class _ExportableRoIAlign(RoIAlign):
    """mmcv's layer; exporters and compilers see torchvision's operator, whose shapes they know."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # mmcv calls it so
        if not torch.compiler.is_compiling() or self.pool_mode != 'avg':
            return super().forward(input, rois)
        ratio = self.sampling_ratio or -1
        return roi_align(input, rois, self.output_size, self.spatial_scale, ratio, self.aligned)


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
        if layer_cfg['type'] == 'RoIAlign':
            options = {key: value for key, value in layer_cfg.items() if key != 'type'}
            return nn.ModuleList(
                _ExportableRoIAlign(spatial_scale=1 / stride, **options)
                for stride in featmap_strides
            )
        if layer_cfg['type'] != 'RoIPool':
            return super().build_roi_layers(layer_cfg, featmap_strides)
        unknown = set(layer_cfg) - {'type', 'output_size'}
        if unknown:
            raise InputError(f'roi_layer: RoIPool has no {sorted(unknown)}; expected output_size')
        size = _pair(layer_cfg['output_size'])
        return nn.ModuleList(RoIPool(size, 1 / stride) for stride in featmap_strides)


def onnx_translations() -> dict[Any, Callable]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export`` for ``RoIPool``.

    The exporter's own translation (onnxscript 0.7) expects one argument for the output's height and
    width, where torchvision's operator has two, and raises ``TypeError``.

    Raises:
        ImportError: onnxscript is not installed.
    """
    from onnxscript import opset18

    def roi_pool(
        features: Any, rois: Any, spatial_scale: float, height: int, width: int
    ) -> tuple[Any, Any]:
        pooled = opset18.MaxRoiPool(
            features, rois, pooled_shape=(height, width), spatial_scale=spatial_scale
        )
        return pooled, opset18.Cast(pooled, to=6)  # the places of the maxima, which nothing reads

    return {torch.ops.torchvision.roi_pool.default: roi_pool}
