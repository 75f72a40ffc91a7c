"""Index images in parts, so that neither a damaged file nor an interruption costs finished work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from projects.common.errors import InputError
from projects.common.files.skipped import SkippedImages
from projects.common.hooks.progress import progress_bar

from .store import VectorStore

__all__ = ['index_images']

_SAVE_INTERVAL = 30.0  # seconds between two saves, if they are short compared with this
_SAVE_SHARE = 0.05  # longest share of the time that saving may take


def index_images(
    names: Sequence[str],
    store: VectorStore,
    encode: Callable[[Sequence[str], int], np.ndarray],
    batch_size: int,
    skipped_file: str | os.PathLike | None = None,
    *,
    skip_damaged: bool = False,
    show_progress: bool = False,
) -> int:
    """Encode images in batches and add them to a store, which is saved as it grows.

    Args:
        names: Paths of the images.
        store: The store.
        encode: Returns the embeddings (N, C) of N images, given their paths and a batch size.
        batch_size: Number of images per batch.
        skipped_file: File for the paths of skipped images, each with a tab and the reason.
        skip_damaged: Skip images that cannot be read, instead of raising an error.
        show_progress: Whether to show a progress bar if there are several batches.

    Returns:
        The number of entries added.

    Raises:
        FileNotFoundError: An image does not exist.
        ValueError: An image cannot be read.
    """
    if batch_size < 1:
        raise InputError(f'batch_size={batch_size}: expected at least 1')
    if not names:
        raise InputError('no images are given')
    parts = [names[start : start + batch_size] for start in range(0, len(names), batch_size)]
    quiet: dict[str, Any] = (
        {} if show_progress and len(parts) > 1 else dict(style='lines', interval=float('inf'))
    )
    growing = _Growing(store)
    with SkippedImages(skip_damaged, skipped_file) as skipped:
        try:
            with progress_bar(len(parts), 'images', 'batch', **quiet) as bar:
                for part in parts:
                    growing.add(*_encode_readable(part, encode, skipped))
                    bar.update()
        finally:
            growing.save()
    return growing.count


class _Growing:
    """Collect entries and pass them on to a store from time to time."""

    def __init__(self, store: VectorStore) -> None:
        self.store = store
        self.count = 0
        self._names: list[str] = []
        self._vectors: list[np.ndarray] = []
        self._next_save = time.monotonic() + _SAVE_INTERVAL

    def add(self, names: Sequence[str], vectors: np.ndarray | None) -> None:
        if vectors is None:
            return
        self._names += names
        self._vectors.append(vectors)
        if self.store.incremental and time.monotonic() >= self._next_save:
            self.save()

    def save(self) -> None:
        if not self._names:
            return
        start = time.monotonic()
        self.store.add(self._names, np.concatenate(self._vectors))
        self.store.save()
        self.count += len(self._names)
        self._names, self._vectors = [], []
        end = time.monotonic()
        self._next_save = end + max(_SAVE_INTERVAL, (end - start) / _SAVE_SHARE)


def _encode_readable(
    part: Sequence[str],
    encode: Callable[[Sequence[str], int], np.ndarray],
    skipped: SkippedImages,
) -> tuple[list[str], np.ndarray | None]:
    """Return the readable images and their embeddings."""
    rest = list(part)
    while rest:
        with skipped.skipping(rest):
            return rest, encode(rest, len(rest))
        rest = [name for name in rest if name not in skipped.found]
    return [], None
