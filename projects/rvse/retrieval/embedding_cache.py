"""Embeddings on disk by what they were made of."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import numpy as np

__all__ = ['EmbeddingCache']


class EmbeddingCache:
    """Vectors by the content that they are embeddings of.

    A key is made of the space (model, weights, preprocessing) and of the bytes of the content, so
    that a file which moved is found again and one which changed is not. The file is SQLite's:
    what is being written when a process ends is there in full or not at all, and several
    processes may use it.

    Args:
        folder: Where ``embeddings.sqlite`` lies; it is made.
        space: Names everything besides the content that an embedding depends on.
    """

    def __init__(self, folder: str | os.PathLike, space: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = Path(folder, 'embeddings.sqlite')
        self.space = space
        self._file = sqlite3.connect(self.path, timeout=60)
        try:
            with self._file:
                self._file.execute(
                    'CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB)'
                )
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(
                f'cache {self.path}: no cache of embeddings ({error}); remove it'
            ) from None

    def key(self, content: bytes) -> bytes:
        """What embeddings of ``content`` are kept under."""
        return hashlib.sha256(self.space.encode() + b'\0' + content).digest()

    def get(self, key: bytes) -> np.ndarray | None:
        """The vector (C,) float32 of a key; None where there is none."""
        found = self._file.execute('SELECT vector FROM embeddings WHERE key = ?', (key,))
        row = found.fetchone()
        return None if row is None else np.frombuffer(row[0], dtype='<f4')

    def put(self, keys: list[bytes], vectors: np.ndarray) -> None:
        """Keeps vectors (N, C), all of them or none."""
        rows = [(k, v.astype('<f4').tobytes()) for k, v in zip(keys, vectors, strict=True)]
        with self._file:
            self._file.executemany('INSERT OR REPLACE INTO embeddings VALUES (?, ?)', rows)

    def __len__(self) -> int:
        return self._file.execute('SELECT COUNT(*) FROM embeddings').fetchone()[0]

    def close(self) -> None:
        self._file.close()
