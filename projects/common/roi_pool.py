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
    """Use torchvision's operator in mmcv's layer when a model is exported or compiled.

    Exporters and compilers know the output shapes of torchvision's operator.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # mmcv's names
        if not torch.compiler.is_compiling() or self.pool_mode != 'avg':
            return super().forward(input, rois)
        ratio = self.sampling_ratio or -1
        return roi_align(input, rois, self.output_size, self.spatial_scale, ratio, self.aligned)


@MODELS.register_module()
class PortableRoIExtractor(SingleRoIExtractor):
    """Extend mmdet's RoI feature extractor with a ``RoIPool`` that also runs without a GPU.

    ``RoIPool`` is torchvision's on every device. mmcv has no CPU implementation, and its GPU kernel
    pools different cells: Fast R-CNN, torchvision and the released code round the corners of a box
    to cells, but mmcv's kernel uses them unrounded, with the lower right corner one pixel further
    out. A model trained with mmcv's layer on a GPU would see different features with torchvision's
    on a CPU. All other layers are mmcv's. The arguments are those of mmdet's extractor.
    """

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: Sequence[int]) -> nn.ModuleList:
        """Build one layer per stride.

        Raises:
            ValueError: ``RoIPool`` has arguments other than ``output_size``.
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

    def forward(
        self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Pool RoIs (n, 5), whose first column is the image: (n, C, s, s).

        Autocast leaves RoIs and pooling in float32, because bfloat16 has no operators and would
        move corners by pixels; the result has the type of the maps.

        Without RoIs the maps have a gradient, which is 0: processes that exchange gradients expect
        one of every parameter, whatever their images contain.
        """
        if not len(rois):
            size = _pair(self.roi_layers[0].output_size)
            none = torch.cat([each.flatten()[:0] for each in feats])
            return none.view(0, self.out_channels, *size)
        dtype = feats[0].dtype
        wide = torch.promote_types(dtype, torch.float32)
        pooled = super().forward(tuple(each.to(wide) for each in feats), rois, roi_scale_factor)
        return pooled.to(dtype)


def onnx_translations() -> dict[Any, Callable]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export`` for ``RoIPool``.

    The exporter's own translation (onnxscript 0.7) expects a single argument for the output's
    height and width, but torchvision's operator has two, so it raises ``TypeError``.

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
        return pooled, opset18.Cast(pooled, to=6)  # the argmax output, which nothing reads

    return {torch.ops.torchvision.roi_pool.default: roi_pool}
