"""Index images in parts, so that neither a damaged file nor an interruption costs finished work."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.atomic import write_atomically
from projects.common.files.image_reader import ImageError, MissingImageError
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
    skipped: dict[str, tuple[str, str]] = {}  # path -> reason, message
    try:
        with progress_bar(len(parts), 'images', 'batch', **quiet) as bar:
            for part in parts:
                growing.add(*_encode_readable(part, encode, skipped if skip_damaged else None))
                bar.update()
    finally:
        growing.save()
        _report(skipped, skipped_file)
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
    skipped: dict[str, tuple[str, str]] | None,
) -> tuple[list[str], np.ndarray | None]:
    """Return the readable images and their embeddings; add the others to ``skipped``."""
    rest = list(part)
    while rest:
        try:
            return rest, encode(rest, len(rest))
        except (ImageError, MissingImageError) as error:
            if skipped is None or error.image not in rest:
                raise
            skipped[error.image] = (error.reason, ' '.join(str(error).split()))
            rest = [name for name in rest if name != error.image]
    return [], None


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors='backslashreplace')


def _report(skipped: dict[str, tuple[str, str]], file: str | os.PathLike | None) -> None:
    if file is not None and (skipped or os.path.exists(file)):
        lines = ''.join(f'{path}\t{message}\n' for path, (_, message) in skipped.items())
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(file), lines.encode(errors='surrogateescape'))
    if not skipped:
        return
    groups: dict[str, list[str]] = defaultdict(list)
    for path, (reason, _) in skipped.items():
        groups[reason].append(path)
    counts = '; '.join(
        f'{len(paths):,} of them: {reason} (first: {_printable(paths[0])})'
        for reason, paths in sorted(groups.items(), key=lambda group: -len(group[1]))
    )
    where = f'; all are listed in {os.fspath(file)}' if file is not None else ''
    print_log(f'left out {len(skipped):,} images: {counts}{where}', 'current', logging.WARNING)
