"""Where a gallery's vectors lie: one small interface, several engines, chosen by URI."""

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
    """An entry that was found.

    Attributes:
        name: Its name in the store.
        score: Inner product with the query.
    """

    name: str
    score: float


class VectorStore(ABC):
    """Vectors by name, searched by inner product.

    A store belongs to one space, the model and the weights that made its vectors: scores of
    vectors of two models mean nothing.
    """

    @abstractmethod
    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Adds vectors (N, C) float32; an entry whose name is there already is replaced.

        Raises:
            ValueError: A vector is not finite, or the channels are not the store's.
        """

    @abstractmethod
    def search(self, queries: np.ndarray, top_k: int) -> list[list[Hit]]:
        """The best entries for each query (Q, C), best first; fewer where the store has fewer.

        Raises:
            ValueError: The store is empty, or the channels are not its.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of entries."""

    @abstractmethod
    def save(self) -> None:
        """Makes what was added durable."""

    def close(self) -> None:  # noqa: B027  most have nothing to release
        """Releases files and connections."""

    def __enter__(self) -> VectorStore:
        """The store, which closes where the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes; what was not saved is lost."""
        self.close()


def open_store(uri: str | os.PathLike, space: str, create: bool = True, **kwargs) -> VectorStore:
    """The store that a URI names.

    Args:
        uri: A folder, or ``faiss:FOLDER``: faiss in this process's memory, exact unless
            ``factory`` says otherwise. ``milvus:FILE.db``: Milvus Lite, embedded.
            ``milvus:http://HOST:19530``: a Milvus server or cluster, for galleries that outgrow a
            machine.
        space: Names the model and the weights that make the vectors.
        create: Make the store where it does not exist.
        kwargs: Further arguments of the engine's class.

    Raises:
        FileNotFoundError: It does not exist, and ``create`` is not set.
        ModuleNotFoundError: The engine is not installed; the message says what to install.
        ValueError: The store is of another space.
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
    """(N, C) float32, contiguous and finite.

    Raises:
        ValueError: They are not so.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or channels not in (None, vectors.shape[1]):
        raise InputError(
            f'{where}: vectors of shape {vectors.shape}, expected (N, {channels or "C"})'
        )
    if not np.isfinite(vectors).all():
        raise InputError(f'{where}: vectors with NaN or infinity')
    return vectors
