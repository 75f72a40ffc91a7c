"""Read what other models found for AOQ: candidates, features or similarities in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from projects.common.errors import InputError

__all__ = ['read_candidates', 'similarity_blocks']


def read_candidates(
    paths: Sequence[str], owner: Tensor, top_captions: int, top_images: int
) -> tuple[Tensor, Tensor]:
    """Return the top released candidates after checking all that are used.

    Args:
        paths: Two ``.npy`` files: captions for every image (I, n) and images for every caption
            (T, n), hardest first.
        owner: (T,), the image of each caption.
        top_captions: Number of negatives per image.
        top_images: Number of negatives per caption.

    Returns:
        Captions (I, top_captions) and images (T, top_images).

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file does not fit the training set.
    """
    images, captions = int(owner.max()) + 1, len(owner)
    hard_captions = _read_indices(paths[0], images, captions, top_captions, 'top_captions')
    _check_negative(paths[0], owner[hard_captions] == torch.arange(images)[:, None])
    hard_images = _read_indices(paths[1], captions, images, top_images, 'top_images')
    _check_negative(paths[1], hard_images == owner[:, None])
    return hard_captions, hard_images


def _read_indices(path: str, rows: int, limit: int, top: int, field: str) -> Tensor:
    """Read the first columns (rows, top) of indices below a limit."""
    array = _array(path)
    if array.ndim != 2 or len(array) != rows or array.shape[1] < top:
        raise InputError(f'{path}: shape {array.shape}, expected ({rows}, {field}={top} or more)')
    chosen = torch.from_numpy(np.asarray(array[:, :top], dtype=np.int64))
    if chosen.min() < 0 or chosen.max() >= limit:
        raise InputError(
            f'{path}: indices {chosen.min()} to {chosen.max()}, expected 0 to {limit - 1}'
        )
    return chosen


def _check_negative(path: str, own: Tensor) -> None:
    """Reject candidates, some of which are marked as belonging to their row."""
    if own.any():
        row = int(own.any(dim=1).nonzero()[0])
        raise InputError(
            f'{path}: row {row} names what belongs to it, expected negatives; is it of '
            'another data set?'
        )


def similarity_blocks(paths: Sequence[str], owner: Tensor, block_size: int) -> Iterator[Tensor]:
    """Yield row blocks of the similarity matrix (I, T), read or computed from files.

    Args:
        paths: A ``.npy`` file of similarities (I, T), or two of embeddings (I, C) and (T, C), which
            are compared by inner product.
        owner: (T,), the image of each caption.
        block_size: Number of images per block.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file does not fit the training set.
    """
    num_images = int(owner.max()) + 1
    arrays = [_array(path) for path in paths]
    for path, array, rows in zip(paths, arrays, (num_images, len(owner))):
        if array.ndim != 2 or len(array) != rows:
            raise InputError(f'{path}: shape {array.shape}, expected {rows} rows')
    if len(arrays) == 2 and arrays[0].shape[1] != arrays[1].shape[1]:
        raise InputError(
            f'{paths[1]}: {arrays[1].shape[1]} channels, expected those of {paths[0]}, '
            f'{arrays[0].shape[1]}'
        )
    captions = torch.from_numpy(np.array(arrays[1], np.float32)) if len(arrays) == 2 else None
    for start in range(0, num_images, block_size):
        block = torch.from_numpy(np.array(arrays[0][start : start + block_size], 'f4'))
        yield block if captions is None else block @ captions.T


def _array(path: str) -> np.ndarray:
    """Open a ``.npy`` file memory-mapped."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'OfflineMiningHook: miner: {path}: no such file')
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f'{path}: expected an array file (.npy): {error}') from None
