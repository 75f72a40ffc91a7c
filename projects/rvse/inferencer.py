"""Inference: index images and search them with sentences, or the other way round."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from projects.common.errors import InputError
from projects.common.files.annotation_files import is_utf8, read_lines
from projects.common.files.image_reader import content_key, read_content
from projects.common.files.images import IMAGE_SUFFIXES
from projects.common.inferencer import ImageInferencer, ImageInput

from . import register  # noqa: F401
from .models import CosineSimilarity, ImageTextMatcher
from .retrieval import EmbeddingCache, Hit, VectorStore, index_images, open_store
from .retrieval.embedding import embed
from .retrieval.space import embedding_space

__all__ = ['RetrievalInferencer']


class RetrievalInferencer(ImageInferencer):
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
        self.space = embedding_space(self.cfg.model, self.model, steps)
        self.cache = EmbeddingCache(cache_dir, self.space) if cache_dir is not None else None

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Clear missing paths: the checkpoint contains the vocabulary and the weights."""
        text = model.get('text_encoder', {})
        bert = text.get('encoder') or {}
        for part in (text, bert):
            for source in ('pretrained', 'vocab_file'):
                if part.get(source) and not os.path.exists(part[source]):
                    part[source] = None
        embedding = self._weights.get('text_encoder.embed.weight')
        if embedding is not None:
            text['vocab_size'] = len(embedding)

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raise ``ValueError`` unless the model has a vocabulary and one embedding per image."""
        if not isinstance(model, ImageTextMatcher):
            raise InputError(f'{type(model).__name__}: expected an ImageTextMatcher')
        if not isinstance(model.similarity, CosineSimilarity):
            raise InputError(
                f'{type(model.similarity).__name__}: it compares every region with every word; '
                'an index needs a model with one embedding an image (CosineSimilarity)'
            )
        encoder = model.text_encoder
        known = getattr(encoder, 'vocabulary', None) or getattr(
            getattr(encoder, 'encoder', None), 'tokenizer', None
        )
        if known is None:
            raise InputError(
                f'weights {weights}: hold no vocabulary, and text_encoder of the config names none'
            )

    def _init_pipeline(self, cfg: Config):
        if cfg.model.get('backbone') is None:
            return None  # a model of regions cannot load images
        return super()._init_pipeline(cfg)

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
        if self.model.backbone is None:
            raise InputError(
                'this model was trained on precomputed regions and cannot read images; use one '
                'with an image backbone (the setting `backbone` of its config)'
            )
        images = self._inputs_to_list(inputs)

        def encode(part: Sequence[ImageInput]) -> torch.Tensor:
            loaded = [self._load(image)[1] for image in part]
            batch = {key: [each[key] for each in loaded] for key in ('inputs', 'data_samples')}
            data = self.model.data_preprocessor(batch, False)
            return self.model.encode_images(data['inputs'])[0]

        return embed(
            images, encode, _image_bytes, 'images', batch_size, self.cache, self.show_progress
        )

    def encode_sentences(self, sentences: str | Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Compute the embeddings (N, C) float32 of sentences.

        Raises:
            ValueError: A sentence is empty.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        for sentence in sentences:
            if not isinstance(sentence, str) or not sentence.strip() or not is_utf8(sentence):
                raise InputError(f'sentence {sentence!r}: expected words in UTF-8')

        def encode(part: Sequence[str]) -> torch.Tensor:
            return self.model.encode_captions(part)[0]

        return embed(
            sentences, encode, str.encode, 'sentences', batch_size, self.cache, self.show_progress
        )

    # ------------------------------------------------------------------------------ gallery

    def open_store(self, uri: str | os.PathLike, **kwargs: Any) -> VectorStore:
        """Open the store at a URI; see :func:`projects.rvse.retrieval.open_store`."""
        return open_store(uri, self.space, **kwargs)

    def index(
        self,
        gallery: str | os.PathLike | Sequence[str | os.PathLike],
        store: str | os.PathLike | VectorStore,
        batch_size: int = 32,
        skip_damaged: bool = False,
        skipped_file: str | os.PathLike | None = None,
    ) -> int:
        """Add images or sentences to a store, replacing entries of the same name.

        The store is saved while it grows: if this method is interrupted or raises, the store has
        what was encoded so far.

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
            The number of entries added.

        Raises:
            FileNotFoundError: An image, the folder or the file does not exist.
            ValueError: An image cannot be read, or the store was made by another model.
        """
        names, pictures = _gallery(gallery, self._inputs_to_list)
        opened = store if isinstance(store, VectorStore) else self.open_store(store)
        try:
            opened.check_names(names)  # before hours of encoding
            if pictures:
                options = dict(show_progress=self.show_progress, skip_damaged=skip_damaged)
                return index_images(
                    names, opened, self.encode_images, batch_size, skipped_file, **options
                )
            opened.add(names, self.encode_sentences(names))
            opened.save()
        finally:
            if opened is not store:
                opened.close()
        return len(names)

    def __call__(
        self,
        queries: str | ImageInput | Sequence[str | ImageInput],
        store: str | os.PathLike | VectorStore,
        top_k: int = 5,
    ) -> list[list[Hit]]:
        """Search a store for the best matches of each query.

        Args:
            queries: One or several queries. Arrays, PIL images and paths of existing files are
                images; any other text is a sentence.
            store: A URI or an open store.
            top_k: Number of entries to return per query.

        Returns:
            The best entries for each query, best first. The score is the cosine similarity.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: The store is empty or was made by another model.
        """
        asked: list[Any] = list(queries) if isinstance(queries, (list, tuple)) else [queries]
        vectors = [
            self.encode_images([q])[0] if _is_image(q) else self.encode_sentences(q)[0]
            for q in asked
        ]
        return self.find(np.stack(vectors), store, top_k)

    def find(
        self, vectors: np.ndarray, store: str | os.PathLike | VectorStore, top_k: int = 5
    ) -> list[list[Hit]]:
        """Search a store with embeddings (N, C).

        Unlike :meth:`__call__`, this never interprets untrusted text as a path.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: The store is empty or was made by another model.
        """
        if top_k < 1:
            raise InputError(f'top_k={top_k}: expected at least 1')
        opened = store if isinstance(store, VectorStore) else self.open_store(store, create=False)
        try:
            return opened.search(vectors, top_k)
        finally:
            if opened is not store:
                opened.close()


def _is_image(query: object) -> bool:
    if not isinstance(query, str) or query.lower().endswith(IMAGE_SUFFIXES):
        return True
    try:
        return os.path.isfile(query)
    except (OSError, ValueError):
        return False


def _image_bytes(image: ImageInput) -> bytes | None:
    """Return what identifies an image file, or None for inputs that are not files."""
    if isinstance(image, (str, os.PathLike)) and os.path.isfile(image):
        return content_key(read_content(image))
    return content_key(image) if isinstance(image, bytes) else None


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
