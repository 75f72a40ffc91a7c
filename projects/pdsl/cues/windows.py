"""Crop masks that are known within windows of an image, by several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from .roi_targets import crop_window, rows_of

__all__ = ['Window', 'available_cores', 'crop_windows', 'in_threads']

T = TypeVar('T')
#: The pixels [x1, x2) x [y1, y2) as (x1, y1, x2, y2), and the mask (y2 - y1, x2 - x1) in them;
#: outside there is nothing.
Window = tuple[tuple[int, int, int, int], np.ndarray]
EMPTY: Window = ((0, 0, 0, 0), np.zeros((0, 0), dtype=bool))


def available_cores() -> int:
    """Return this process's share of the cores: of a node's, or of those that it is bound to."""
    cores = os.cpu_count() or 1
    if hasattr(os, 'sched_getaffinity'):
        cores = len(os.sched_getaffinity(0))
    return max(1, cores // int(os.environ.get('LOCAL_WORLD_SIZE') or 1))


def in_threads(
    function: Callable[[T], Any], items: Iterable[T], threads: int | None = None
) -> Iterator[Any]:
    """Apply a function to items in threads, by default as many as :func:`available_cores`."""
    items = list(items)
    threads = min(threads or available_cores(), len(items))
    if threads <= 1:
        return map(function, items)
    with ThreadPoolExecutor(threads) as pool:
        return iter(list(pool.map(function, items)))


def crop_windows(
    window: Callable[[int], Window],
    shape: tuple[int, int],
    rois: np.ndarray,
    nearest: np.ndarray,
    size: int,
) -> np.ndarray:
    """Crop masks to boxes, each as :func:`.crop_masks` crops the whole mask.

    Args:
        window: Makes the mask of an index; only the masks in ``nearest`` are made.
        shape: Height and width of the image.
        rois: Boxes (m, 4), XYXY in pixels.
        nearest: Index (m,) of the mask for each box.
        size: Height and width of a crop.

    Returns:
        Crops (m, size, size), float32, of 0 and 1.
    """
    boxes = np.asarray(rois, dtype=np.float32)
    found = np.zeros((len(boxes), size, size), dtype=np.float32)

    def crop(item: tuple[int, list[int]]) -> None:  # NumPy and RoIAlign release the GIL
        index, chosen = item
        (x1, y1, x2, y2), mask = window(index)
        if x2 > x1 and y2 > y1:
            found[chosen] = crop_window(mask, (x1, y1), shape, boxes[chosen], size)

    list(in_threads(crop, rows_of(nearest.tolist()).items()))
    return found
