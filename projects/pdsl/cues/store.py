"""Masks of boxes on disk: one file per image, written atomically."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from projects.common.files.atomic import locked, write_atomically
from projects.common.files.caches import is_read_only, spare_place

__all__ = ['Box', 'MaskStore', 'content_digest', 'file_digest']

Box = tuple[int, int, int, int]
# (height, width) of the mask, the window [x1, y1, x2, y2) around its foreground, and the window's
# compressed bits.
_Entry = tuple[tuple[int, int], Box, bytes]


def content_digest(content: bytes) -> str:
    """Return the digest of a content, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """Return the digest of a file's content, 32 hexadecimal digits.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    with open(path, 'rb') as file:
        return content_digest(file.read())


class MaskStore:
    """Store masks by image and integer box, in a subfolder named after the fingerprint.

    The file of an image holds, for each box, the smallest window around its mask, one bit per
    pixel. Each window is compressed separately, so that a few masks out of thousands are read
    quickly. The file is replaced as a whole, by renaming it, under a lock: neither a killed process
    nor a second writer leaves a partial file or loses the other's masks. Every read verifies the
    file's checksums; a file that is damaged nevertheless (a failing disk) counts as absent, with a
    warning, and is rewritten.

    If the folder cannot be written, as on a read-only disk of data, its masks are read and new ones
    go to :func:`.spare_place`; the log says so once.

    Args:
        folder: Folder of the store; created when the first masks are written.
        fingerprint: Everything but image and box that determines the masks.
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: str) -> None:
        name = hashlib.blake2b(fingerprint.encode(), digest_size=8).hexdigest()
        self.folder = Path(folder) / name
        self.fingerprint = fingerprint
        self.spare = spare_place(folder, 'cues') / name
        self._read_only = False

    def path(self, image: str) -> Path:
        """Return the file of an image, identified by its :func:`file_digest`."""
        return self._path(self.folder, image)

    @staticmethod
    def _path(folder: Path, image: str) -> Path:
        return folder / image[:2] / f'{image}.npz'

    def boxes(self, image: str) -> set[Box]:
        """Return the boxes for which the image has a mask."""
        return set(self._read(image))

    def read(self, image: str, boxes: Sequence[Box]) -> dict[Box, np.ndarray]:
        """Return the stored masks, (H, W) bool, of those boxes that have one."""
        return {box: read() for box, read in self.readers(image, boxes).items()}

    def readers(self, image: str, boxes: Sequence[Box]) -> dict[Box, Callable[[], np.ndarray]]:
        """Return functions that decode the masks which :meth:`read` returns, in any thread."""
        entries = self._read(image)
        return {box: partial(_decode, *entries[box]) for box in boxes if box in entries}

    def add(self, image: str, masks: Mapping[Box, np.ndarray]) -> None:
        """Add masks, (H, W) bool, to those already stored for an image."""
        if not self._read_only:
            try:
                return self._add(self.folder, image, masks)
            except OSError as error:
                if not is_read_only(error):
                    raise
            self._read_only = True
            print_log(
                f'{self.folder.parent}: cannot be written; its masks are read, and new ones go to '
                f'{self.spare.parent} (MMTRIAD_CACHE sets another place)',
                'current',
                logging.WARNING,
            )
        return self._add(self.spare, image, masks)

    def _add(self, folder: Path, image: str, masks: Mapping[Box, np.ndarray]) -> None:
        note = folder / 'fingerprint.txt'
        if not note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / '.lock'):
                write_atomically(note, f'{self.fingerprint}\n'.encode())
        path = self._path(folder, image)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / '.lock'):
            entries = self._read(image)
            entries.update({box: _encode(mask) for box, mask in masks.items()})
            sizes, windows, parts = zip(*entries.values())
            buffer = io.BytesIO()
            np.savez(
                buffer,
                boxes=np.array(list(entries), dtype=np.int32),
                sizes=np.array(sizes, dtype=np.int32),
                windows=np.array(windows, dtype=np.int32),
                ends=np.cumsum([len(part) for part in parts], dtype=np.int64),
                data=np.frombuffer(b''.join(parts), dtype=np.uint8),
            )
            write_atomically(path, buffer.getbuffer())

    def _read(self, image: str) -> dict[Box, _Entry]:
        return {
            **_read_file(self._path(self.spare, image)),
            **_read_file(self._path(self.folder, image)),
        }


def _read_file(path: Path) -> dict[Box, _Entry]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            boxes, sizes, windows, ends = (
                file[name].tolist() for name in ('boxes', 'sizes', 'windows', 'ends')
            )
            data = file['data'].tobytes()
    except Exception as error:  # damaged zip files and headers raise almost anything
        print_log(
            f'{path}: damaged ({type(error).__name__}: {error}); its masks are made anew',
            logger='current',
            level=logging.WARNING,
        )
        return {}
    starts = [0, *ends]
    return {
        tuple(box): (tuple(size), tuple(window), data[start:end])
        for box, size, window, start, end in zip(boxes, sizes, windows, starts, ends)
    }


def _encode(mask: np.ndarray) -> _Entry:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask.shape, (0, 0, 0, 0), b''
    x1, y1, x2, y2 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    data = zlib.compress(np.packbits(mask[y1:y2, x1:x2]).tobytes())
    return mask.shape, (x1, y1, x2, y2), data


def _decode(size: tuple[int, int], window: Box, data: bytes) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    x1, y1, x2, y2 = window
    count = (x2 - x1) * (y2 - y1)
    if count:
        bits = np.frombuffer(zlib.decompress(data), dtype=np.uint8)
        mask[y1:y2, x1:x2] = np.unpackbits(bits, count=count).reshape(y2 - y1, x2 - x1)
    return mask
