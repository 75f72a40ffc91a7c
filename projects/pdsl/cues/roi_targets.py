"""Mask targets in RoI space: one (size, size) grid over each proposal's box."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['crop_masks', 'threshold_in_roi']


def threshold_in_roi(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """Return targets for a mask head from the probabilities of the previous head.

    The released code pastes the probabilities into the image, thresholds them, traces polygons and
    rasterises these in the same box again. Up to resampling along the outline, this maps each pixel
    of the grid to itself. Here the grid is thresholded directly.

    Args:
        probabilities: Probabilities (n, size, size) in [0, 1].
        threshold: Least probability of foreground.

    Returns:
        Targets (n, size, size) of 0 and 1, in the dtype of ``probabilities``, detached. If there is
        no foreground, the whole box is foreground, as in the released code.
    """
    masks = probabilities.detach() >= threshold
    empty = ~masks.flatten(1).any(dim=1)
    return (masks | empty[:, None, None]).to(probabilities.dtype)


def crop_masks(masks: Tensor, mask_index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop one mask per proposal to the proposal's own box.

    Args:
        masks: Masks (m, H, W), bool or 0 and 1, in image pixels: the cue's masks of the seeds.
        mask_index: Index (n,), long, of the mask for each proposal: that of its nearest seed.
        boxes: Boxes (n, 4), XYXY in pixels.
        size: Side of the targets.

    Returns:
        Targets (n, size, size), float, of 0 and 1: the mask's mean over each cell, >= 0.5.
    """
    from mmcv.ops import roi_align

    targets = boxes.new_zeros((len(boxes), size, size), dtype=torch.float32)
    # One RoIAlign call over a batch of one-channel images would do, but hundreds of seeds in a
    # large image take gigabytes as floats. One mask at a time gives the same result.
    for index in mask_index.unique().tolist():
        rows = (mask_index == index).nonzero()[:, 0]
        rois = torch.cat([boxes.new_zeros((len(rows), 1)), boxes[rows]], dim=1).float()
        mask = masks[index][None, None].to(rois)
        cropped = roi_align(mask, rois, (size, size), 1.0, 0, 'avg', True)[:, 0]
        targets[rows] = (cropped >= 0.5).float()
    return targets
