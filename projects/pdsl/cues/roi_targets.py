"""Mask targets in RoI space: one (size, size) grid over each proposal's box."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torchvision  # noqa: F401  (its operators)
from torch import Tensor

__all__ = ['crop_masks', 'crop_window', 'rows_of', 'threshold_in_roi']


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
    boxes = boxes.to(masks.device, torch.float32)
    targets = boxes.new_zeros((len(boxes), size, size))
    # One RoIAlign call over a batch of one-channel images would do, but hundreds of seeds in a
    # large image take gigabytes as floats. One mask at a time gives the same result.
    for index, rows in rows_of(mask_index.tolist()).items():
        targets[rows] = _align(masks[index], boxes[rows], size)
    return targets


def rows_of(mask_index: Iterable[int]) -> dict[int, list[int]]:
    """Return the positions of each index."""
    found: dict[int, list[int]] = {}
    for row, index in enumerate(mask_index):
        found.setdefault(index, []).append(row)
    return found


def crop_window(
    mask: np.ndarray,
    corner: tuple[int, int],
    shape: tuple[int, ...],
    boxes: np.ndarray,
    size: int,
) -> np.ndarray:
    """Crop a mask that is known in a window of an image, as :func:`crop_masks` does.

    Args:
        mask: Mask (h, w), bool or 0 and 1; the image has none elsewhere.
        corner: x and y of its first pixel in the image.
        shape: Height and width of the image.
        boxes: Boxes (n, 4), XYXY in pixels, float32.
        size: Side of the crops.

    Returns:
        Crops (n, size, size), float32, of 0 and 1.
    """
    x, y = corner
    # Only the pixels up to the last one that RoIAlign reads, with unchanged coordinates.
    right, bottom = np.ceil(boxes[:, 2:].max(axis=0)).astype(int) + 2
    bottom, right = min(max(bottom, 1), shape[0]), min(max(right, 1), shape[1])
    pixels = torch.zeros(bottom, right)
    part = mask[: max(bottom - y, 0), : max(right - x, 0)]
    pixels[y : y + len(part), x : x + part.shape[1]] = torch.from_numpy(part)
    return _align(pixels, torch.from_numpy(boxes), size).numpy()


def _align(mask: Tensor, boxes: Tensor, size: int) -> Tensor:
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    # torchvision's operator computes what mmcv's does, also where mmcv has none for a GPU
    pooled = torch.ops.torchvision.roi_align(
        mask[None, None].float(), rois, 1.0, size, size, 0, True
    )
    return (pooled[:, 0] >= 0.5).float()
