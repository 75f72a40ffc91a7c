"""Whether the maps of a backbone are those that RoIs are pooled from."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import Tensor

from projects.common.errors import InputError

__all__ = ['check_maps']


def check_maps(
    maps: Sequence[Tensor],
    size: Sequence[int],
    extractor: BaseRoIExtractor,
    name: str,
    backbone: str,
) -> None:
    """Reject maps with other channels or another stride than an extractor expects.

    Args:
        maps: Outputs of the backbone, of which the extractor reads the first.
        size: Height and width of the images in pixels.
        extractor: The RoI extractor, with ``featmap_strides`` and ``out_channels``.
        name: Its name within the RoI head, for the message.
        backbone: Name of the backbone's class, for the message.

    Raises:
        InputError: An output is no map, or its channels or its stride differ.
    """
    for x, stride in zip(maps, extractor.featmap_strides):
        shape = tuple(x.shape)
        if len(shape) != 4:
            raise InputError(
                f'model.backbone: {backbone} gives {shape}, expected maps (B, C, h, w); '
                "mmpretrain's transformers need out_type='featmap'"
            )
        if shape[1] != extractor.out_channels:
            raise InputError(
                f'roi_head.{name}.out_channels={extractor.out_channels}: {backbone} gives '
                f'{shape[1]} channels'
            )
        # a last cell may be cut off or padded
        if any(abs(cells * stride - pixels) >= stride for cells, pixels in zip(shape[2:], size)):
            found = max(1, round(max(size) / max(shape[2:])))
            raise InputError(
                f'roi_head.{name}.featmap_strides={list(extractor.featmap_strides)}: {backbone} '
                f'gives {shape[2]} x {shape[3]} cells for {size[0]} x {size[1]} pixels, a stride '
                f'of {found}; set it to that, or change the strides or dilations of the backbone'
            )
