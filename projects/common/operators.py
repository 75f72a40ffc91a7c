"""Which library's operators run on a device: mmcv's where it was compiled for it, or torchvision's.

mmcv is compiled where it is installed, without CUDA operators where there is no CUDA compiler.
torchvision's wheel has them always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from mmcv.ops import get_compiling_cuda_version
from torch import Tensor

from .errors import InputError

__all__ = ['mmcv_has_cuda', 'nms_config', 'on_gpu']


def mmcv_has_cuda() -> bool:
    """Return whether mmcv was compiled with operators for GPUs."""
    return get_compiling_cuda_version() != 'not available'


def on_gpu(tensor: Tensor) -> bool:
    """Return whether a tensor is on a GPU."""
    return tensor.is_cuda


def nms_config(nms: Mapping[str, Any], boxes: Tensor) -> dict[str, Any]:
    """Return a config for mmcv's ``batched_nms`` that runs on the device of ``boxes``.

    Args:
        nms: ``type`` and its arguments, as in a ``test_cfg``.
        boxes: Boxes of any shape.
    """
    config = dict(nms)
    if config.get('type', 'nms') == 'nms' and on_gpu(boxes) and not mmcv_has_cuda():
        config['type'] = torchvision_nms
    return config


def torchvision_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """Compute what mmcv's ``nms`` does with torchvision's operator.

    Args:
        boxes: (n, 4), XYXY.
        scores: (n,).
        iou_threshold: IoU above which the lower score is left out.
        offset: Only 0; a pixel that is added to widths and heights.
        score_threshold: Least score, exclusive, if above 0.
        max_num: Most boxes; below 1 for all.

    Returns:
        Boxes with scores (k, 5), best first, and their indices (k,).

    Raises:
        ValueError: ``offset`` is not 0.
    """
    if offset:
        raise InputError(
            f'nms.offset: {offset}; expected 0, because this mmcv has no CUDA operators and '
            'torchvision has no offset (docs/installation.md)'
        )
    rows = (scores > score_threshold).nonzero()[:, 0] if score_threshold > 0 else None
    if rows is None:
        kept = torchvision.ops.nms(boxes, scores, iou_threshold)
    else:
        kept = rows[torchvision.ops.nms(boxes[rows], scores[rows], iou_threshold)]
    kept = kept[:max_num] if max_num > 0 else kept
    return torch.cat((boxes[kept], scores[kept, None]), 1), kept
