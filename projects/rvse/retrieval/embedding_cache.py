"""An on-disk cache of embeddings, keyed by content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from projects.common.errors import InputError

__all__ = ['EmbeddingCache']


class EmbeddingCache:
    """Cache embeddings by the content they were computed from.

    A key is derived from the space (model, weights, preprocessing) and the bytes of the content, so
    a moved file is found again and a changed one is not. The cache is an SQLite file: if a process
    ends during a write, the write is either complete or absent. Several processes and threads may
    share it.

    Args:
        folder: Folder of ``embeddings.sqlite``, created if necessary.
        space: Identifies everything besides the content that an embedding depends on.
    """

    def __init__(self, folder: str | os.PathLike, space: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = Path(folder, 'embeddings.sqlite')
        self.space = space
        self._lock = threading.Lock()
        self._file = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        try:
            with self._database() as file:
                file.execute(
                    'CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB)'
                )
        except ValueError:
            self._file.close()
            raise

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction; errors about a damaged file name it."""
        try:
            with self._lock, self._file:
                yield self._file
        except sqlite3.OperationalError as error:
            if 'locked' in str(error) or 'full' in str(error):
                raise
            if 'readonly' in str(error) or 'unable to open' in str(error):
                raise InputError(f'cache {self.path}: cannot be written ({error})') from None
            raise InputError(self._damaged(error)) from None
        except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError) as error:
            raise InputError(self._damaged(error)) from None

    def _damaged(self, reason: object) -> str:
        reason = ' '.join(str(reason).split())
        return f'cache {self.path}: no cache of embeddings ({reason}); remove it'

    def key(self, content: bytes) -> bytes:
        """Return the key for the embedding of ``content``."""
        return hashlib.sha256(self.space.encode() + b'\0' + content).digest()

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the vector (C,) float32 of a key, or None if it is not cached."""
        with self._database() as file:
            found = file.execute('SELECT vector FROM embeddings WHERE key = ?', (key,))
            row = found.fetchone()
        if row is None:
            return None
        if not isinstance(row[0], bytes) or len(row[0]) % 4:
            raise InputError(self._damaged('an entry is no vector'))
        return np.frombuffer(row[0], dtype='<f4')

    def put(self, keys: list[bytes], vectors: np.ndarray) -> None:
        """Store vectors (N, C), all of them or none."""
        rows = [(k, v.astype('<f4').tobytes()) for k, v in zip(keys, vectors, strict=True)]
        with self._database() as file:
            file.executemany('INSERT OR REPLACE INTO embeddings VALUES (?, ?)', rows)

    def __len__(self) -> int:
        """Return the number of embeddings in all spaces."""
        with self._database() as file:
            return file.execute('SELECT COUNT(*) FROM embeddings').fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
