"""Results of a search: those that are good enough, without near-duplicates, whose files exist."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mmengine.logging import print_log

from projects.common.calibration import Calibration
from projects.common.errors import InputError
from projects.common.files.images import IMAGE_SUFFIXES
from projects.common.files.skipped import printable

from .file_states import FileState
from .store import Hit, VectorStore

_MOST_HITS = 16_384  # Milvus returns no more

__all__ = [
    'Search',
    'fold_duplicates',
    'gone_entries',
    'is_gone',
    'prune',
    'warn_of_gone',
    'with_probabilities',
]


def fold_duplicates(
    hits: Sequence[Hit], vectors: np.ndarray, similarity: float, top_k: int
) -> list[Hit]:
    """Fold near-duplicates into the first of them.

    Args:
        hits: N results, best first.
        vectors: Their unit vectors (N, C).
        similarity: A result is folded into an earlier one if their cosine is at least this.
        top_k: Number of results to return at most. Those after the last of them and before the
            next one that would be returned are folded as well.

    Returns:
        Results whose ``duplicates`` name those that were folded into them.
    """
    kept: list[int] = []
    folded: dict[int, list[str]] = {}
    for i, hit in enumerate(hits):
        cosines = vectors[kept] @ vectors[i]
        near = np.flatnonzero(cosines >= similarity)
        if len(near):
            folded.setdefault(kept[near[0]], []).append(hit.name)
        elif len(kept) == top_k:
            break
        else:
            kept.append(i)
    return [replace(hits[i], duplicates=tuple(folded.get(i, ()))) for i in kept]


def with_probabilities(
    hits: Sequence[Hit], calibration: Calibration | None, is_image: bool = False
) -> list[Hit]:
    """Add the probability that sentence and image belong together to the results of a query.

    Results of the query's own kind, such as images found for an image, get none, because the
    calibration is of images and sentences.

    Args:
        hits: The results.
        calibration: That of the model that made the scores; None adds nothing.
        is_image: Whether the query is an image instead of a sentence.
    """
    if calibration is None:
        return list(hits)
    probabilities = calibration(np.array([hit.score for hit in hits]))
    return [
        hit
        if hit.name.lower().endswith(IMAGE_SUFFIXES) == is_image
        else replace(hit, probability=p)
        for hit, p in zip(hits, probabilities.tolist())
    ]


@dataclass(frozen=True)
class Search:
    """Search a store for entries that are similar enough, without near-duplicates.

    Attributes:
        top_k: Number of entries per query.
        min_similarity: Lowest inner product with the query, or None.
        fold_duplicates: See :func:`fold_duplicates`; None keeps all.

    Raises:
        ValueError: ``top_k`` is below 1, or ``fold_duplicates`` is no cosine.
    """

    top_k: int
    min_similarity: float | None = None
    fold_duplicates: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.top_k < 1:
            raise InputError(f'top_k={self.top_k}: expected at least 1')
        if self.fold_duplicates is not None and not -1 <= self.fold_duplicates <= 1:
            raise InputError(
                f'fold_duplicates={self.fold_duplicates}: expected a cosine, for example 0.98'
            )

    def __call__(self, vectors: np.ndarray, store: VectorStore) -> list[list[Hit]]:
        """Return the entries for each query (Q, C), best first.

        Raises:
            ValueError: The store is empty.
        """
        if self.fold_duplicates is None:
            return [self.similar(hits) for hits in store.search(vectors, self.top_k)]
        found = []
        for vector in vectors:
            depth, last = 2 * self.top_k, False
            while not last:
                depth = min(2 * depth, len(store), _MOST_HITS)
                hits = self.similar(store.search(vector[None], depth)[0])
                folded = self.fold(hits, store)
                seen = sum(1 + len(hit.duplicates) for hit in folded)
                # deeper ones are folded too, until one is left over
                last = seen < len(hits) or len(hits) < depth or depth in (len(store), _MOST_HITS)
            found.append(folded)
        return found

    def similar(self, hits: list[Hit]) -> list[Hit]:
        """Return those that are similar enough."""
        least = -np.inf if self.min_similarity is None else self.min_similarity
        return [hit for hit in hits if hit.score >= least]

    def fold(self, hits: list[Hit], store: VectorStore) -> list[Hit]:
        """Return the first ``top_k``, near-duplicates folded into them if required."""
        if self.fold_duplicates is None or not hits:
            return hits[: self.top_k]
        vectors = store.vectors([hit.name for hit in hits])
        return fold_duplicates(hits, vectors, self.fold_duplicates, self.top_k)


def is_gone(name: str, states: Container[str] = ()) -> bool:
    """Return whether an entry was made from an image whose file does not exist any more.

    Args:
        name: The entry, whose name is a path or a sentence.
        states: Entries that are certainly made from files. Others are if they end like images.
    """
    if name not in states and not name.lower().endswith(IMAGE_SUFFIXES):
        return False  # a sentence
    return FileState.of(name) is None


def gone_entries(store: VectorStore) -> list[str]:
    """Return the entries of images whose files do not exist any more, sorted."""
    states = store.states()
    return [name for name in store.names() if is_gone(name, states)]


def prune(store: VectorStore) -> list[str]:
    """Remove the entries of images whose files do not exist any more, and save the store.

    Returns:
        The removed entries.

    Raises:
        ValueError: All images of the store are gone, which has other reasons in general; or the
            store cannot remove entries.
    """
    gone = gone_entries(store)
    if gone and len(gone) == len(store):
        raise InputError(
            f'all {len(gone):,} images of the store are gone, such as {gone[0]!r}; work in the '
            'folder in which they were indexed, or mount their disk; if they are gone for good, '
            'remove the store'
        )
    if gone:
        store.remove(gone)
        store.save()
    return gone


def warn_of_gone(names: Iterable[str], consequence: str = '') -> set[str]:
    """Name the entries found whose images are gone in one line of the log, and return them."""
    gone = {name for name in names if is_gone(name)}
    if gone:
        listed = sorted(map(printable, gone))
        shown = ', '.join(listed[:5]) + (', ...' if len(listed) > 5 else '')
        plural = len(gone) > 1
        print_log(
            f'{len(gone)} of the images found {"are" if plural else "is"} gone: {shown}'
            f'{consequence}; `prune` removes such entries',
            'current',
            logging.WARNING,
        )
    return gone
