"""Score images and sentences with a model that compares regions with words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from projects.common.errors import InputError
from projects.common.inferencer import ImageInput
from projects.common.speed.products import fast_products

from .image_stream import cores, read_ahead
from .matcher_inferencer import MatcherInferencer
from .results import Search, warn_of_gone
from .store import Hit, VectorStore

__all__ = ['Reranker', 'rerank_hits']


class Reranker(MatcherInferencer):
    """Score images and sentences with any matching model, for example SCAN or SGRAF.

    Such a model compares every region with every word, so it cannot be indexed, but it can put the
    first results of an index into a better order. For the arguments, see
    :class:`projects.common.inferencer.ImageInferencer`.

    Raises:
        FileNotFoundError: The config or checkpoint does not exist.
        ValueError: The weights do not fit the model, there is no vocabulary, or the model reads
            precomputed regions instead of images.

    Examples:
        >>> search = RetrievalInferencer(weights='rvse.pth')               # doctest: +SKIP
        >>> reranker = Reranker(weights='scan.pth')                        # doctest: +SKIP
        >>> search('a dog', 'work_dirs/photos', reranker=reranker)         # doctest: +SKIP
    """

    def __call__(
        self, images: Sequence[ImageInput], sentences: str | Sequence[str], batch_size: int = 32
    ) -> np.ndarray:
        """Compute the scores (I, T) float32 of I images and T sentences.

        Args:
            images: Paths, contents of files, BGR arrays or PIL images.
            sentences: One or several sentences.
            batch_size: Number of images per batch.

        Raises:
            FileNotFoundError: An image does not exist.
            ValueError: An image cannot be read, or a sentence is empty.
        """
        if batch_size < 1:
            raise InputError(f'batch_size={batch_size}: expected at least 1')
        self.check_images()
        given = self._sentences(sentences)
        rows = [np.zeros((0, len(given)), np.float32)]
        with torch.no_grad(), fast_products():
            words = self.model.encode_captions(given)
            for start in range(0, len(images), batch_size):
                part = images[start : start + batch_size]
                samples = list(read_ahead(self._load_sample, part, batch_size, cores()))
                scores = self.model.similarity(*self._encode_samples(samples), *words)
                rows.append(scores.float().cpu().numpy())
        return np.concatenate(rows)


def rerank_hits(
    reranker: Reranker,
    queries: Sequence[Any],
    are_images: Sequence[bool],
    vectors: np.ndarray,
    store: VectorStore,
    search: Search,
    count: int,
) -> list[list[Hit]]:
    """Search a store, and sort the first results by the scores of another model.

    Args:
        reranker: The model.
        queries: Q sentences or images.
        are_images: Whether each query is an image.
        vectors: Embeddings (Q, C) of the queries.
        store: The store, of images if the queries are sentences, and the other way round.
        search: What to return.
        count: Number of results that are scored. Those whose files are gone are left out.

    Raises:
        ValueError: ``count`` is less than the number of results to return, or both a query and an
            entry are images, or sentences.
    """
    if count < search.top_k:
        raise InputError(f'rerank={count}: expected at least top_k={search.top_k}')
    found = []
    for query, is_image, hits in zip(queries, are_images, store.search(vectors, count)):
        hits = search.similar(hits)
        if not is_image:
            left_out = ' (left out, because the reranker reads images)'
            gone = warn_of_gone((hit.name for hit in hits), left_out)
            hits = [hit for hit in hits if hit.name not in gone]
        names = [hit.name for hit in hits]
        same = next((name for name in names if os.path.isfile(name) == is_image), None)
        if same is not None:
            kind = 'images' if is_image else 'sentences'
            raise InputError(
                f'reranker: the query and the entry {same!r} are both {kind}; it compares images '
                'with sentences'
            )
        if hits:
            scores = reranker([query], names)[0] if is_image else reranker(names, query)[:, 0]
            order = np.argsort(-scores, kind='stable')
            hits = [replace(hits[i], score=float(scores[i])) for i in order]
        found.append(search.fold(hits, store))
    return found
