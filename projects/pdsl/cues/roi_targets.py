"""Mask targets in RoI space: one (size, size) grid over each proposal's box."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torchvision  # noqa: F401  (its operators)
from scipy.sparse import csr_array
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
    height, width = mask.shape
    pixels = mask.astype(np.float32)
    means = np.zeros((len(boxes), size, size), dtype=np.float32)
    for mean, (x1, y1, x2, y2) in zip(means, boxes):
        if x2 > x1 and y2 > y1:
            rows = _cells(y1, y2, size, shape[0], y, height)
            columns = _cells(x1, x2, size, shape[1], x, width)
            mean[:] = _cell_means(pixels, rows, columns)
    crops = (means >= 0.5).astype(np.float32)
    # RoIAlign adds in another order. Where this may matter, it decides itself: a coordinate is
    # rounded by at most half of the last bit, and a mean by as much for each axis.
    rounding = 1e-5 + 2 * np.finfo(np.float32).eps * max(shape)
    close = (np.abs(means - 0.5) < rounding).any(axis=(1, 2))
    if close.any():
        whole = torch.zeros(tuple(shape))
        whole[y : y + height, x : x + width] = torch.from_numpy(mask)
        crops[close] = _align(whole, torch.from_numpy(boxes[close]), size).numpy()
    return crops


def _cell_means(
    pixels: np.ndarray, rows: tuple[np.ndarray, np.ndarray], columns: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Compute what RoIAlign pools (size, size), but for rounding, axis by axis."""
    indices, weights = rows
    size, count = indices.shape
    ends = np.arange(0, size * count + 1, count)
    by_row = csr_array((weights.ravel(), indices.ravel(), ends), (size, len(pixels))) @ pixels
    indices, weights = columns
    return (by_row[:, indices] * weights).sum(axis=-1)


def _cells(
    start: np.float32, end: np.float32, size: int, extent: int, first: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute which pixels of an axis count in the cells of a box, and how much.

    Args:
        start: Start of the box.
        end: End of the box, larger than its start.
        size: Number of cells.
        extent: Number of pixels of the image.
        first: First pixel of the window.
        length: Number of pixels of the window.

    Returns:
        Indices (size, k), int32, in the window, and weights (size, k), float32, which are 0 for
        pixels outside the window.
    """
    half = np.float32(0.5)
    start, end = start - half, end - half
    step = (end - start) / np.float32(size)
    count = int(np.ceil(step))  # samples of a cell, at most a pixel apart
    cells = np.arange(size)[:, None]
    parts = (np.arange(count, dtype=np.float32) + half) * step / np.float32(count)
    samples = start + cells.astype(np.float32) * step + parts
    counts = ((samples >= -1) & (samples <= extent)).astype(np.float32) / np.float32(count)
    samples = samples.clip(0, extent - 1)
    low = samples.astype(np.int32)
    upper = (samples - low) * counts
    reach = count + 2  # pixels from the first sample's
    places = low - low[:, :1] + cells * reach
    weights = np.bincount(places.ravel(), (counts - upper).ravel(), minlength=size * reach)
    weights += np.bincount((places + 1).ravel(), upper.ravel(), minlength=size * reach)
    indices = low[:, :1] - first + np.arange(reach, dtype=np.int32)
    weights = weights.reshape(size, reach) * ((indices >= 0) & (indices < length))
    return indices.clip(0, length - 1), weights.astype(np.float32)


def _align(mask: Tensor, boxes: Tensor, size: int) -> Tensor:
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    # torchvision's operator computes what mmcv's does, also where mmcv has none for a GPU
    pooled = torch.ops.torchvision.roi_align(
        mask[None, None].float(), rois, 1.0, size, size, 0, True
    )
    return (pooled[:, 0] >= 0.5).float()
