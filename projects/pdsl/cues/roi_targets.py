"""Mask targets in RoI space: each of them a (size, size) grid over its proposal's box."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['crop_masks', 'threshold_in_roi']


def threshold_in_roi(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """Targets of a mask head from the probabilities of the head before it.

    The released code pastes the probabilities into the picture, thresholds, traces polygons and
    rasterises these in the same box again: one pixel of the grid back to itself, up to
    resampling along the outline. Here the grid is thresholded where it is.

    Args:
        probabilities: (n, size, size) in [0, 1].
        threshold: Foreground from this value on.

    Returns:
        (n, size, size) of 0 and 1 in the dtype of ``probabilities``, without gradient. Where
        nothing is foreground the whole box is, as in the released code.
    """
    masks = probabilities.detach() >= threshold
    empty = ~masks.flatten(1).any(dim=1)
    return (masks | empty[:, None, None]).to(probabilities.dtype)


def crop_masks(masks: Tensor, mask_index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop for each proposal one of the picture's masks by the proposal's own box.

    Args:
        masks: (m, H, W) bool or 0 and 1, in the picture's pixels; the cue's masks of the seeds.
        mask_index: (n,) long, which mask each proposal takes: that of its nearest seed.
        boxes: (n, 4) XYXY in pixels.
        size: Side of the targets.

    Returns:
        (n, size, size) float of 0 and 1: the mean of the mask over each cell, >= 0.5.
    """
    from mmcv.ops import roi_align

    targets = boxes.new_zeros((len(boxes), size, size), dtype=torch.float32)
    # As a batch of one-channel images RoIAlign would take any of them for each box, but all as
    # floats are gigabytes: hundreds of seeds in a large picture. One at a time is the same.
    for index in mask_index.unique().tolist():
        rows = (mask_index == index).nonzero()[:, 0]
        rois = torch.cat([boxes.new_zeros((len(rows), 1)), boxes[rows]], dim=1).float()
        mask = masks[index][None, None].to(rois)
        cropped = roi_align(mask, rois, (size, size), 1.0, 0, 'avg', True)[:, 0]
        targets[rows] = (cropped >= 0.5).float()
    return targets
