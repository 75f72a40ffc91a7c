"""Inference: index images and search them with sentences, or the other way round."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from projects.common.calibration import Calibration
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_lines
from projects.common.files.images import IMAGE_SUFFIXES
from projects.common.inferencer import ImageInput

from .models import CosineSimilarity
from .retrieval import EmbeddingCache, Hit, VectorStore, open_store
from .retrieval.embedding import embed
from .retrieval.image_stream import ImageStream
from .retrieval.indexing import index_images
from .retrieval.matcher_inferencer import MatcherInferencer
from .retrieval.queries import combined, terms_of
from .retrieval.reranker import Reranker, rerank_hits
from .retrieval.results import Search, prune, warn_of_gone, with_probabilities
from .retrieval.space import embedding_space

__all__ = ['RetrievalInferencer']


class RetrievalInferencer(MatcherInferencer):
    """Find images for sentences and sentences for images.

    Args:
        model: A config file, a name listed by :func:`projects.common.list_models`, or a config.
            None uses the config that our training stores in the checkpoint.
        weights: A checkpoint file, the folder of a published model (``publish_model.py``) or its
            Hugging Face Hub id. Without weights the model is randomly initialised, which is only
            useful for trying things out, and a warning is logged.
        device: The device, for example 'cpu' or 'cuda:0'. None selects the fastest one available.
        cache_dir: Folder of the embedding cache. None disables caching.
        show_progress: Whether to show a progress bar.
        trust_checkpoint: Unpickle the checkpoint without restrictions. This executes any code it
            contains.

    Raises:
        FileNotFoundError: The config or checkpoint does not exist.
        ValueError: The weights do not fit the model, there is no vocabulary, or the model does not
            produce a single embedding per image (SCAN, BFAN and SGRAF do not).

    Examples:
        >>> inferencer = RetrievalInferencer(weights='best.pth')            # doctest: +SKIP
        >>> inferencer.index('photos/', 'work_dirs/photos')                 # doctest: +SKIP
        >>> inferencer('a dog on a beach', 'work_dirs/photos', top_k=5)     # doctest: +SKIP
        [[Hit(name='photos/0012.jpg', score=0.61), ...]]
    """

    def __init__(
        self,
        model: str | os.PathLike | Config | ConfigDict | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        cache_dir: str | os.PathLike | None = None,
        show_progress: bool = True,
        trust_checkpoint: bool = False,
    ) -> None:
        super().__init__(model, weights, device, show_progress, trust_checkpoint)
        # A model of regions has no pipeline.
        steps = [] if self.pipeline is None else [self._file_loader, *self.pipeline.transforms]
        steps += ['large JPEGs are reduced'] if self.resized is not None else []
        self.space = embedding_space(self.cfg.model, self.model, steps)
        self.cache = EmbeddingCache(cache_dir, self.space) if cache_dir is not None else None

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raise ``ValueError`` unless the model has a vocabulary and one embedding per image."""
        super().check_model(model, weights)
        if not isinstance(model.similarity, CosineSimilarity):
            raise InputError(
                f'{type(model.similarity).__name__}: it compares every region with every word; '
                'an index needs a model with one embedding an image (CosineSimilarity)'
            )

    # --------------------------------------------------------------------------- embeddings

    def encode_images(
        self, inputs: ImageInput | Sequence[ImageInput], batch_size: int = 32
    ) -> np.ndarray:
        """Compute the embeddings (N, C) float32 of images.

        Args:
            inputs: Paths, a folder, contents of files (bytes), BGR arrays or PIL images.
            batch_size: Number of images per batch.

        Raises:
            FileNotFoundError: An image does not exist.
            ValueError: An image cannot be read, or the model reads precomputed regions.
        """
        images = self._inputs_to_list(inputs)
        return self._stream(batch_size).encode_all(images, self.show_progress)

    def _stream(self, batch_size: int) -> ImageStream:
        self.check_images()
        return ImageStream(
            self._load_sample,
            lambda samples: self._encode_samples(samples)[0],
            self.cache,
            batch_size,
        )

    def encode_sentences(self, sentences: str | Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Compute the embeddings (N, C) float32 of sentences.

        Raises:
            ValueError: A sentence is empty.
        """
        return embed(
            self._sentences(sentences), self._encode_sentences, str.encode, 'sentences',
            batch_size, self.cache, self.show_progress,
        )  # fmt: skip

    # ------------------------------------------------------------------------------ gallery

    def open_store(self, uri: str | os.PathLike, **kwargs: Any) -> VectorStore:
        """Open the store at a URI; see :func:`projects.rvse.retrieval.open_store`."""
        return open_store(uri, self.space, **kwargs)

    def _opened(
        self, store: str | os.PathLike | VectorStore, create: bool = False
    ) -> contextlib.AbstractContextManager[VectorStore]:
        """Open a store for a block, unless it is open already."""
        if isinstance(store, VectorStore):
            return contextlib.nullcontext(store)
        return self.open_store(store, create=create)

    def index(
        self,
        gallery: str | os.PathLike | Sequence[str | os.PathLike],
        store: str | os.PathLike | VectorStore,
        batch_size: int = 32,
        skip_damaged: bool = False,
        skipped_file: str | os.PathLike | None = None,
    ) -> int:
        """Add images or sentences to a store, replacing entries of the same name.

        Images that have not changed since they were indexed are not read again. The store is saved
        while it grows: if this method is interrupted or raises, the store has what was encoded so
        far.

        Args:
            gallery: A folder of images (and of folders of images), paths of images, a text file
                with one sentence per line, or sentences. An item of a list is a sentence unless it
                is the path of a file or ends like the name of an image.
            store: A URI or an open store.
            batch_size: Number of images per batch.
            skip_damaged: Skip images that cannot be read, with a warning that counts them by
                reason, instead of raising an error.
            skipped_file: File to write the skipped images to, with the reason of each.

        Returns:
            The number of entries added or replaced.

        Raises:
            FileNotFoundError: An image, the folder or the file does not exist.
            ValueError: An image cannot be read, or the store was made by another model.
        """
        names, images = _gallery(gallery, self._inputs_to_list)
        with self._opened(store, create=True) as opened:
            if images:
                options = dict(show_progress=self.show_progress, skip_damaged=skip_damaged)
                return index_images(
                    names, opened, self._stream(batch_size), skipped_file, **options
                )
            opened.check_names(names)  # before they are encoded
            opened.add(names, self.encode_sentences(names))
            opened.save()
        return len(names)

    def remove(self, names: str | Sequence[str], store: str | os.PathLike | VectorStore) -> None:
        """Remove entries from a store.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: A name is not in the store, or the store cannot remove entries.
        """
        with self._opened(store) as opened:
            opened.remove([names] if isinstance(names, str) else list(names))
            opened.save()

    def prune(self, store: str | os.PathLike | VectorStore) -> list[str]:
        """Remove the entries whose image files do not exist any more, and return them.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: All images are gone, or the store cannot remove entries.
        """
        with self._opened(store) as opened:
            return prune(opened)

    def __call__(
        self,
        queries: str | ImageInput | Sequence[str | ImageInput],
        store: str | os.PathLike | VectorStore,
        top_k: int = 5,
        min_similarity: float | None = None,
        fold_duplicates: float | None = None,
        reranker: Reranker | None = None,
        rerank: int = 50,
        min_probability: float | None = None,
    ) -> list[list[Hit]]:
        """Search a store for the best matches of each query.

        A line of the log names the words of a sentence that the model does not know, and the images
        found whose files no longer exist.

        Args:
            queries: One or several queries. Arrays, PIL images and paths of existing files are
                images; any other text is a sentence, or several terms, sentences or paths, between
                `` + `` and `` - ``.
            store: A URI or an open store.
            top_k: Number of entries to return per query.
            min_similarity: Leave out entries whose cosine similarity is lower. None keeps all.
            fold_duplicates: Fold entries into a better one if their embeddings have at least this
                cosine similarity, for example 0.98. None keeps all.
            reranker: Model that scores the first entries anew and sorts them by its score.
            rerank: Number of entries that it scores.
            min_probability: Leave out entries of a lower probability, for example
                ``inferencer.calibration.threshold``. None keeps all.

        Returns:
            The best entries for each query, best first. The score is the cosine similarity, or that
            of the reranker. ``probability`` is set if the weights (of the reranker, if there is
            one) are calibrated, except for queries of several terms and images found for images.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: The store is empty or was made by another model, or a result has no
                probability, but there is a least one.
        """
        asked: list[Any] = list(queries) if isinstance(queries, (list, tuple)) else [queries]
        if reranker is not None:
            _refuse_combined(asked)
        calibration = (reranker or self).calibration
        if min_probability is not None and calibration is None:
            raise InputError(f'min_probability={min_probability}: the weights are not calibrated')
        vectors = np.concatenate([_encode_query(self, query) for query in asked])
        search = Search(top_k, min_similarity, fold_duplicates)
        with self._opened(store) as opened:
            if reranker is None:
                found = search(vectors, opened)
            else:
                are_images = [_is_image(query) for query in asked]
                found = rerank_hits(reranker, asked, are_images, vectors, opened, search, rerank)
        warn_of_gone(hit.name for hits in found for hit in hits)
        return [
            _probable(hits, query, calibration, min_probability)
            for query, hits in zip(asked, found, strict=True)
        ]

    def find(
        self,
        vectors: np.ndarray,
        store: str | os.PathLike | VectorStore,
        top_k: int = 5,
        min_similarity: float | None = None,
        fold_duplicates: float | None = None,
    ) -> list[list[Hit]]:
        """Search a store with embeddings (N, C).

        Unlike :meth:`__call__`, this never interprets untrusted text as a path. For the other
        arguments, see there. Its results have no probabilities.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: The store is empty or was made by another model.
        """
        search = Search(top_k, min_similarity, fold_duplicates)
        with self._opened(store) as opened:
            return search(vectors, opened)


def _is_image(query: object) -> bool:
    if not isinstance(query, str) or query.lower().endswith(IMAGE_SUFFIXES):
        return True
    try:
        return os.path.isfile(query)
    except (OSError, ValueError):
        return False


def _probable(
    hits: list[Hit], query: object, calibration: Calibration | None, least: float | None
) -> list[Hit]:
    """Add probabilities to the results, and return those of at least ``least``."""
    if not _has_terms(query):
        hits = with_probabilities(hits, calibration, _is_image(query))
    if least is None:
        return hits
    if any(hit.probability is None for hit in hits):
        raise InputError(
            f'min_probability={least}: query {query!r}: several terms, or an image to find images '
            'with; expected a sentence that finds images, or the other way round'
        )
    return [hit for hit in hits if hit.probability is not None and hit.probability >= least]


def _has_terms(query: object) -> bool:
    """Return whether a query consists of several terms; the path of a file never does."""
    if not isinstance(query, str) or len(terms_of(query)) == 1:
        return False
    return not (_is_image(query) and os.path.isfile(query))


def _encode_query(inferencer: RetrievalInferencer, query: Any) -> np.ndarray:
    """Compute the embedding (1, C) of a query, which may have several terms."""

    def embed(term: Any) -> np.ndarray:
        if _is_image(term):
            return inferencer.encode_images([term])
        inferencer.warn_of_unknown_words(term)
        return inferencer.encode_sentences(term)

    return combined(query, embed) if _has_terms(query) else embed(query)


def _refuse_combined(queries: Sequence[object]) -> None:
    for query in queries:
        if _has_terms(query):
            raise InputError(f'query {query!r}: a reranker takes a sentence or an image, no terms')


def _gallery(gallery: Any, list_images) -> tuple[list[str], bool]:
    """Return the names of the entries and whether they are images."""
    if isinstance(gallery, (str, os.PathLike)):
        path = os.fspath(gallery)
        if path.endswith('.txt'):
            sentences = [line.strip() for line in read_lines(path) if line.strip()]
            if not sentences:
                raise InputError(f'{path}: no sentence, expected one a line')
            return sentences, False
        if not os.path.exists(path):
            raise FileNotFoundError(f'gallery {path}: no such folder, image or text file')
        return [os.fspath(p) for p in list_images(path)], True
    names = [os.fspath(entry) for entry in gallery]
    files = [_is_image(name) for name in names]
    if any(files) and not all(files):
        raise InputError(
            f'gallery: {names[files.index(False)]!r} is no file, but others are; a call adds '
            'images or sentences'
        )
    return names, bool(names) and all(files)
