"""Vector stores: one small interface with several engines, selected by URI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from projects.common.errors import InputError

__all__ = ['STATE_BYTES', 'Hit', 'VectorStore', 'check_vectors']

STATE_BYTES = 128


@dataclass(frozen=True)
class Hit:
    """Represent a search result.

    Attributes:
        name: Name of the entry in the store.
        score: Inner product with the query, or the score of the model that reranked the results.
        duplicates: Names of the near-duplicates that were folded into this result.
        probability: Probability that sentence and image belong together, if the model is
            calibrated.
    """

    name: str
    score: float
    duplicates: tuple[str, ...] = ()
    probability: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, ``duplicates`` and ``probability`` only if there are any."""
        fields: dict[str, Any] = dict(name=self.name, score=self.score)
        if self.probability is not None:
            fields['probability'] = self.probability
        if self.duplicates:
            fields['duplicates'] = list(self.duplicates)
        return fields


class VectorStore(ABC):
    """Store named vectors and search them by inner product.

    A store belongs to one space, that is, to the model and weights that made its vectors. Scores
    between vectors of different models are meaningless.

    Attributes:
        incremental: Whether entries may be added in several parts. If not, the first call of
            :meth:`add` needs as many entries as possible, because it trains an index.
    """

    incremental: bool = True

    def check_names(self, names: Sequence[str]) -> None:  # noqa: B027  most stores take any name
        """Check that entries with these names can be added and saved, before they are encoded.

        Raises:
            ValueError: The store cannot hold a name, or cannot be written.
        """

    @abstractmethod
    def add(
        self, names: Sequence[str], vectors: np.ndarray, states: Sequence[str] | None = None
    ) -> None:
        """Add vectors (N, C) float32, replacing entries with existing names.

        Args:
            names: N names.
            vectors: Their vectors.
            states: N short texts (at most :data:`STATE_BYTES` bytes) that tell which version of a
                file an entry was made from; see :meth:`states`.

        Raises:
            ValueError: A vector is not finite, or the number of channels differs from the store's.
        """

    @abstractmethod
    def remove(self, names: Sequence[str]) -> None:
        """Remove entries.

        Raises:
            ValueError: A name is not in the store (nothing is removed then), or the store cannot
                remove entries.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""

    def __contains__(self, name: object) -> bool:
        """Return whether there is an entry of this name."""
        return name in self.names()

    def states(self) -> dict[str, str]:
        """Return the states of the entries that were added with one, by name."""
        return {}

    @abstractmethod
    def vectors(self, names: Sequence[str]) -> np.ndarray:
        """Return the vectors (N, C) float32 of entries.

        Raises:
            ValueError: A name is not in the store, or the store does not keep whole vectors.
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
