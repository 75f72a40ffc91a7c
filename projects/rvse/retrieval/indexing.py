"""Index images: only what has changed, saved as the store grows, with the damaged ones listed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.skipped import SkippedImages
from projects.common.hooks.progress import progress_bar

from .file_states import FileState
from .image_stream import ReadImage
from .store import VectorStore

__all__ = ['index_images']

_SAVE_INTERVAL = 30.0  # seconds between two saves, if they are short compared with this
_SAVE_SHARE = 0.05  # longest share of the time that saving may take


def index_images(
    names: Sequence[str],
    store: VectorStore,
    stream: Callable[[Iterable[str], Collection[str]], Iterator[ReadImage]],
    skipped_file: str | os.PathLike | None = None,
    *,
    skip_damaged: bool = False,
    show_progress: bool = False,
) -> int:
    """Encode images and add them to a store, which is saved as it grows.

    A file of the same size and time of change as when its entry was made is not read. One of the
    same content, or of the content of another entry, is read but not encoded.

    Args:
        names: Paths of the images.
        store: The store.
        stream: Reads and encodes images, as :class:`ImageStream` does.
        skipped_file: File for the paths of skipped images, each with a tab and the reason.
        skip_damaged: Skip images that cannot be read, instead of raising an error.
        show_progress: Whether to show a progress bar.

    Returns:
        The number of entries added or replaced.

    Raises:
        FileNotFoundError: An image does not exist.
        ValueError: An image cannot be read.
    """
    if not names:
        raise InputError('no images are given')
    names = list(dict.fromkeys(names))
    texts = store.states()
    before = {
        name: state for name, text in texts.items() if (state := FileState.parse(text)) is not None
    }
    now = {name: FileState.of(name) for name in names}
    todo = [name for name in names if name not in before or not before[name].is_of(now[name])]
    store.check_names(todo)  # before hours of encoding
    if len(todo) < len(names):
        print_log(
            f'{len(names) - len(todo):,} of {len(names):,} images have not changed since they '
            'were indexed',
            'current',
        )
    growing = _Growing(store, before)
    style = 'auto' if show_progress else 'lines'
    first = 1.0 if show_progress else float('inf')
    with SkippedImages(skip_damaged, skipped_file) as skipped:
        try:
            with progress_bar(len(todo), 'images', 'image', style=style, first=first) as bar:
                for read in stream(todo, {state.checksum for state in before.values()}):
                    name = str(read.image)
                    with skipped.skipping([name]):
                        if read.error is not None:
                            raise read.error
                        growing.add(name, now[name], read)
                    bar.update()
        finally:
            growing.save()
    return growing.count


class _Growing:
    """Collect entries and pass them on to a store from time to time.

    Args:
        store: The store.
        states: The states of its entries.
    """

    def __init__(self, store: VectorStore, states: dict[str, FileState]) -> None:
        self.store = store
        self.count = 0
        self._states = states
        self._by_checksum = {state.checksum: name for name, state in states.items()}
        self._former: dict[str, np.ndarray] = {}  # by checksum: embeddings that are replaced
        self._made: dict[str, np.ndarray] = {}
        self._copied: dict[str, str] = {}  # name -> checksum of content that has an embedding
        self._new: dict[str, str] = {}  # name -> its state
        self._next_save = time.monotonic() + _SAVE_INTERVAL

    def add(self, name: str, seen: FileState | None, read: ReadImage) -> None:
        checksum = read.checksum or ''
        old = self._states[name].checksum if name in self._states else None
        if old not in (None, checksum) and self._by_checksum.get(old) == name:
            # Another file may have this content now, for example if two were renamed.
            self._former[old] = self.store.vectors([name])[0]
            del self._by_checksum[old]
        if read.vector is None:
            self._copied[name] = checksum
        else:
            self._made[name] = read.vector
            self._by_checksum[checksum] = name
        self.count += old != checksum
        # a file that was missing a moment ago is read anew the next time
        self._new[name] = str(FileState(seen.size, seen.changed, checksum)) if seen else ''
        if self.store.incremental and time.monotonic() >= self._next_save:
            self.save()

    def save(self) -> None:
        if not self._new:
            return
        start = time.monotonic()
        self._made.update(self._copies())
        names = list(self._made)
        vectors = np.stack(list(self._made.values()))
        self.store.add(names, vectors, [self._new[name] for name in names])
        self.store.save()
        self._made, self._copied, self._new = {}, {}, {}
        end = time.monotonic()
        self._next_save = end + max(_SAVE_INTERVAL, (end - start) / _SAVE_SHARE)

    def _copies(self) -> dict[str, np.ndarray]:
        """Look up the embeddings of known contents: replaced, new, or in the store."""
        sources = {
            name: self._by_checksum[checksum]
            for name, checksum in self._copied.items()
            if checksum not in self._former
        }
        stored = [source for source in sources.values() if source not in self._made]
        known = {**dict(zip(stored, self.store.vectors(stored))), **self._made}
        return {
            name: known[sources[name]] if name in sources else self._former[checksum]
            for name, checksum in self._copied.items()
        }
