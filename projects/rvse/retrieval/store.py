"""Vector stores: one small interface with several engines, selected by URI."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.common.errors import InputError

__all__ = ['Hit', 'VectorStore', 'check_vectors', 'open_store']


@dataclass(frozen=True)
class Hit:
    """Represent a search result.

    Attributes:
        name: Name of the entry in the store.
        score: Inner product with the query.
    """

    name: str
    score: float


class VectorStore(ABC):
    """Store named vectors and search them by inner product.

    A store belongs to one space, that is, to the model and weights that made its vectors. Scores
    between vectors of different models are meaningless.
    """

    @abstractmethod
    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Add vectors (N, C) float32, replacing entries with existing names.

        Raises:
            ValueError: A vector is not finite, or the number of channels differs from the store's.
        """

    @abstractmethod
    def search(self, queries: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Return the best entries for each query (Q, C), best first; fewer if the store has fewer.

        Raises:
            ValueError: The store is empty, or the number of channels differs from the store's.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of entries."""

    @abstractmethod
    def save(self) -> None:
        """Make all added entries durable."""

    def close(self) -> None:  # noqa: B027  most stores have nothing to release
        """Release files and connections."""

    def __enter__(self) -> VectorStore:
        """Return the store, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store; unsaved entries are lost."""
        self.close()


def open_store(uri: str | os.PathLike, space: str, create: bool = True, **kwargs) -> VectorStore:
    """Open the store at a URI.

    Args:
        uri: A folder or ``faiss:FOLDER`` for faiss in the memory of this process, exact unless
            ``factory`` says otherwise; ``milvus:FILE.db`` for embedded Milvus Lite; or
            ``milvus:http://HOST:19530`` for a Milvus server or cluster, for galleries that outgrow
            a single machine.
        space: Identifies the model and weights that compute the vectors.
        create: Create the store if it does not exist.
        kwargs: Additional arguments of the engine's class.

    Raises:
        FileNotFoundError: The store does not exist and ``create`` is not set.
        ModuleNotFoundError: The engine is not installed. The message names the package to install.
        ValueError: The store belongs to another space.
    """
    from .faiss_store import FaissStore
    from .milvus_store import MilvusStore

    uri = os.fspath(uri)
    scheme, colon, place = uri.partition(':')
    if colon and scheme == 'milvus':
        return MilvusStore(place, space, create, **kwargs)
    if colon and scheme == 'faiss':
        return FaissStore(place, space, create, **kwargs)
    if '://' in uri:
        raise InputError(f'store {uri}: expected a folder, faiss:FOLDER, milvus:FILE.db or '
                         'milvus:http://HOST:PORT')  # fmt: skip
    return FaissStore(uri, space, create, **kwargs)


def check_vectors(vectors: np.ndarray, channels: int | None, where: str) -> np.ndarray:
    """Convert vectors to contiguous float32 (N, C) and check them.

    Raises:
        ValueError: The shape is wrong, or a value is not finite.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or channels not in (None, vectors.shape[1]):
        raise InputError(
            f'{where}: vectors of shape {vectors.shape}, expected (N, {channels or "C"})'
        )
    if not np.isfinite(vectors).all():
        raise InputError(f'{where}: vectors with NaN or infinity')
    return vectors
