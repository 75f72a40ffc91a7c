"""RoIPool and RoIAlign on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from mmcv import ops
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.utils import _pair
from torchvision.ops import RoIPool, roi_align

from .errors import InputError
from .operators import mmcv_has_cuda, on_gpu

__all__ = ['PortableRoIExtractor', 'onnx_translations']

_AT_A_TIME = 32  # RoIs whose rows are held in float64


def _deterministic_gpu(input: Tensor) -> bool:
    """Return whether the operators' backward passes, which add in any order, may not be used."""
    return torch.are_deterministic_algorithms_enabled() and on_gpu(input)


class _RoIAlign(ops.RoIAlign):
    """Use mmcv's operator, or torchvision's where mmcv has none or does not suit.

    Exporters and compilers know the output shapes of torchvision's operator only, and mmcv may have
    been compiled without CUDA.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # mmcv's names
        if self.pool_mode == 'avg':
            if _deterministic_gpu(input):
                return align_by_products(
                    *(input, rois, _pair(self.output_size)),
                    *(self.spatial_scale, self.sampling_ratio, self.aligned),
                )
            if torch.compiler.is_compiling() or (on_gpu(input) and not mmcv_has_cuda()):
                ratio = self.sampling_ratio or -1
                return roi_align(
                    input, rois, self.output_size, self.spatial_scale, ratio, self.aligned
                )
        elif _deterministic_gpu(input):
            raise InputError(
                "roi_layer: RoIAlign with pool_mode='max' has no deterministic backward pass on a "
                "GPU; expected pool_mode='avg' or randomness.deterministic=False"
            )
        elif on_gpu(input) and not mmcv_has_cuda():
            raise InputError(
                "roi_layer: RoIAlign with pool_mode='max' needs an mmcv with CUDA operators, which "
                "this one lacks (docs/installation.md); expected pool_mode='avg'"
            )
        return super().forward(input, rois)


def align_by_products(
    input: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Compute RoIAlign's average as two matrix products for each RoI.

    Bilinear interpolation and the mean over a grid of samples separate into rows and columns. The
    order in which a product adds is fixed, also in its backward pass.

    Args:
        input: Feature maps (B, C, h, w).
        rois: (n, 5), image and XYXY in pixels.
        size: Height and width of the result.
        scale: Cells for each pixel, 1 / stride.
        sampling_ratio: Samples for each cell of the result and axis; 0 for as many as it has cells.
        aligned: Whether the first cell's center is at 0.5.

    Returns:
        (n, C, *size).
    """
    pooled = input.new_zeros((len(rois), input.shape[1], *size))
    with torch.autocast(input.device.type, enabled=False):
        for image, maps in enumerate(input.double()):  # TF32 would round the products
            for rows in (rois[:, 0] == image).nonzero()[:, 0].split(_AT_A_TIME):
                corners = rois[rows, 1:] * scale - 0.5 * aligned
                down, across = (
                    _sampling_weights(
                        *(corners[:, axis], corners[:, axis + 2], bins, cells),
                        *(sampling_ratio, aligned),
                    ).double()
                    for axis, bins, cells in zip((1, 0), size, maps.shape[1:])
                )
                part = torch.einsum('nph,chw->ncpw', down, maps) @ across.mT[:, None]
                pooled[rows] = part.to(pooled.dtype)
    return pooled


def _sampling_weights(
    low: Tensor, high: Tensor, bins: int, cells: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Return how much each of ``cells`` counts in each of ``bins`` of RoIs: (n, bins, cells)."""
    length = high - low if aligned else (high - low).clamp(min=1)
    step = length / bins
    count = step.ceil() if sampling_ratio <= 0 else torch.full_like(step, sampling_ratio)
    most = int(count.max()) if len(count) else 0
    index = torch.arange(most, device=low.device)
    offset = (index + 0.5) * step[:, None] / count.clamp(min=1)[:, None]
    start = low[:, None] + torch.arange(bins, device=low.device) * step[:, None]
    samples = start[:, :, None] + offset[:, None]  # (n, bins, samples)
    valid = (index < count[:, None])[:, None] & (samples >= -1) & (samples <= cells)
    distance = samples.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=low.device)
    weights = (1 - distance.abs()).clamp(min=0) * valid[..., None]
    return weights.sum(2) / count.clamp(min=1)[:, None, None]


class _RoIPool(RoIPool):
    """Use torchvision's operator, with another backward pass where its own is not deterministic."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        if _deterministic_gpu(input):
            size, scale = _pair(self.output_size), self.spatial_scale
            return cast(Tensor, DeterministicRoIPool.apply(input, rois, size, scale))
        return super().forward(input, rois)


class DeterministicRoIPool(torch.autograd.Function):
    """Apply torchvision's RoIPool, whose backward pass adds in a fixed order."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, rois: Tensor, size: tuple, scale: float) -> Tensor:
        """Pool RoIs (n, 5) of maps (B, C, h, w): (n, C, *size)."""
        pooled, chosen = torch.ops.torchvision.roi_pool(input, rois, scale, *size)
        ctx.save_for_backward(rois, chosen)
        ctx.shape = input.shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Add each gradient to the cell that was the largest of its bin."""
        rois, chosen = ctx.saved_tensors
        channels, cells = ctx.shape[1], ctx.shape[2] * ctx.shape[3]
        planes = rois[:, :1].long() * channels + torch.arange(channels, device=grad.device)
        places = planes[:, :, None, None] * cells + chosen
        empty = chosen < 0  # bins without a cell
        found = grad.new_zeros(ctx.shape).flatten()
        values = grad.masked_fill(empty, 0).flatten()
        found.index_put_((places.masked_fill(empty, 0).flatten(),), values, accumulate=True)
        return found.view(ctx.shape), None, None, None


class _MMCVRoIPool(ops.RoIPool):
    """Use mmcv's operator, which exists for GPUs only."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        lacks = None
        if not on_gpu(input):
            lacks = 'has no operator for a CPU'
        elif not mmcv_has_cuda():
            lacks = 'needs an mmcv with CUDA operators, which this one lacks (docs/installation.md)'
        elif torch.are_deterministic_algorithms_enabled():
            lacks = 'has no deterministic backward pass'
        if lacks is not None:
            raise InputError(f"roi_layer: mmcv.RoIPool {lacks}; expected type='RoIPool' here")
        return super().forward(input, rois)


@MODELS.register_module()
class PortableRoIExtractor(SingleRoIExtractor):
    """Extend mmdet's RoI feature extractor with layers that run on any device.

    ``RoIPool`` is torchvision's on every device. mmcv's, ``mmcv.RoIPool``, has no CPU
    implementation, and its GPU kernel pools different cells: Fast R-CNN, torchvision and the
    released code round the corners of a box to cells, but mmcv's kernel uses them unrounded, with
    the lower right corner one pixel further out. A model trained with mmcv's layer on a GPU would
    see different features with torchvision's on a CPU. ``RoIAlign`` is mmcv's, or torchvision's,
    which computes the same, on a GPU for which mmcv was not compiled. Both have deterministic
    backward passes. All other layers are mmcv's. The arguments are those of mmdet's extractor.
    """

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: Sequence[int]) -> nn.ModuleList:
        """Build one layer per stride.

        Raises:
            ValueError: ``RoIPool`` has arguments other than ``output_size``.
        """
        options = {key: value for key, value in layer_cfg.items() if key != 'type'}
        name = layer_cfg['type']
        if name == 'RoIAlign':
            return nn.ModuleList(
                _RoIAlign(spatial_scale=1 / stride, **options) for stride in featmap_strides
            )
        if name not in ('RoIPool', 'mmcv.RoIPool'):
            return super().build_roi_layers(layer_cfg, featmap_strides)
        if options.keys() != {'output_size'}:
            raise InputError(f'roi_layer: {name} has {sorted(options)}; expected output_size')
        layer = _RoIPool if name == 'RoIPool' else _MMCVRoIPool
        size = _pair(options['output_size'])
        return nn.ModuleList(layer(size, 1 / stride) for stride in featmap_strides)

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
