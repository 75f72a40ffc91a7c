"""Mask targets in RoI space: one (size, size) grid over each proposal's box."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torchvision  # noqa: F401  (its operators)
from torch import Tensor

__all__ = ['crop_masks', 'crop_window', 'rows_of', 'threshold_in_roi']

# RoIAlign adds thousands of samples in float32.
_ROUNDING = 1e-3


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
    if masks.is_cuda:
        boxes = boxes.to(masks.device, torch.float32)
        targets = boxes.new_zeros((len(boxes), size, size))
        # One RoIAlign call over a batch of one-channel images would do, but hundreds of seeds in a
        # large image take gigabytes as floats. One mask at a time gives the same result.
        for index, rows in rows_of(mask_index.tolist()).items():
            targets[rows] = _align(masks[index], boxes[rows], size)
        return targets
    found = np.zeros((len(boxes), size, size), dtype=np.float32)
    corners = boxes.float().cpu().numpy()
    pixels = masks.numpy()
    for index, rows in rows_of(mask_index.tolist()).items():
        found[rows] = crop_window(pixels[index], (0, 0), pixels.shape[1:], corners[rows], size)
    return torch.from_numpy(found)


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

    RoIAlign's mean separates into sums over rows and over columns, of which only the side of one
    half is needed. A box with a cell so near to it that rounding may decide is given to RoIAlign
    itself.

    Args:
        mask: Mask (h, w), bool or 0 and 1; the image has none elsewhere.
        corner: x and y of its first pixel in the image.
        shape: Height and width of the image.
        boxes: Boxes (n, 4), XYXY in pixels, float32.
        size: Side of the crops.

    Returns:
        Crops (n, size, size), float32, of 0 and 1.
    """
    found = np.zeros((len(boxes), size, size), dtype=np.float32)
    (x, y), (height, width) = corner, mask.shape
    unsure = []
    for row, (x1, y1, x2, y2) in enumerate(boxes):
        left, across = _sampling_weights(x1, x2, size, shape[1], x, x + width)
        top, down = _sampling_weights(y1, y2, size, shape[0], y, y + height)
        part = mask[top - y : top - y + down.shape[1], left - x : left - x + across.shape[1]]
        mean = _banded(_banded(part.astype(np.float32), down).T, across).T
        found[row] = mean >= 0.5
        if (np.abs(mean - 0.5) < _ROUNDING).any():
            unsure.append(row)
    if unsure:
        pixels = torch.zeros(*shape)
        pixels[y : y + height, x : x + width] = torch.from_numpy(mask)
        found[unsure] = _align(pixels, torch.from_numpy(boxes[unsure]), size).numpy()
    return found


def _sampling_weights(
    low: float, high: float, size: int, cells: int, first: int, end: int
) -> tuple[int, np.ndarray]:
    """Return RoIAlign's weights of the pixels first to end along an axis, as far as it samples.

    Returns:
        The first pixel p of them and the weights (size, n) of the pixels p to p + n.
    """
    low, high = float(low) - 0.5, float(high) - 0.5
    step = (high - low) / size
    count = max(int(np.ceil(step)), 0)
    bins = np.arange(size)[:, None]
    places = low + bins * step + (np.arange(count) + 0.5) * step / max(count, 1)
    valid = (places >= -1) & (places <= cells)
    places = places.clip(0, cells - 1)
    below = places.astype(int)
    above = np.minimum(below + 1, cells - 1)
    first = max(first, int(below.min(initial=cells)))
    end = max(first, min(end, int(above.max(initial=-1)) + 1))
    weights = np.zeros((size, end - first))
    for index, share in ((below, 1 - (places - below)), (above, places - below)):
        inside = valid & (index >= first) & (index < end)
        place = (bins * (end - first) + index - first)[inside]
        weights += np.bincount(place, share[inside], weights.size).reshape(weights.shape)
    return first, (weights / max(count, 1)).astype(np.float32)


def _banded(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply weights (size, n), of which each row has few next to each other, by (n, k).

    A matrix product would start threads of its own within each of the cue's.
    """
    found = np.zeros((len(weights), pixels.shape[1]), dtype=np.float32)
    for row, out in zip(weights, found):
        used = np.flatnonzero(row)
        if len(used):
            band = slice(used[0], used[-1] + 1)
            np.einsum('n,nk->k', row[band], pixels[band], out=out)
    return found


def _align(mask: Tensor, boxes: Tensor, size: int) -> Tensor:
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    # torchvision's operator computes what mmcv's does, also where mmcv has none for a GPU
    pooled = torch.ops.torchvision.roi_align(
        mask[None, None].float(), rois, 1.0, size, size, 0, True
    )
    return (pooled[:, 0] >= 0.5).float()
