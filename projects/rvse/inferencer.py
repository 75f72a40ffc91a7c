"""One object for use: index pictures and ask with sentences, or the other way round."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from torch import nn

from projects.common.errors import InputError
from projects.common.hooks.progress import progress_bar
from projects.common.inferencer import ImageInferencer, ImageInput
from projects.common.speed.products import fast_products

from . import register  # noqa: F401
from .models import CosineSimilarity, ImageTextMatcher
from .retrieval import EmbeddingCache, Hit, VectorStore, open_store

__all__ = ['RetrievalInferencer']


class RetrievalInferencer(ImageInferencer):
    """Finds pictures for sentences and sentences for pictures.

    Args:
        model: A config file, a name of :func:`projects.common.list_models`, or a config; None
            takes the config that our training leaves in the checkpoint.
        weights: A checkpoint file, the folder of a published model (``publish_model.py``) or the
            Hugging Face hub id of one. Without weights the model is random, which only serves to
            try things out; a warning says so.
        device: Such as 'cpu' or 'cuda:0'; None takes the fastest that is there.
        cache_dir: Folder of the embeddings' cache; None computes each anew.
        show_progress: Whether to show a progress bar.
        trust_checkpoint: Unpickle the checkpoint freely, which runs any code in it.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The weights are not this model's, there is no vocabulary, or the model has no
            single embedding of a picture (as SCAN, BFAN and SGRAF have not).

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
        self.space = self._space()
        self.cache = EmbeddingCache(cache_dir, self.space) if cache_dir is not None else None

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Takes paths out that do not exist here: the checkpoint has vocabulary and weights."""
        text = model.get('text_encoder', {})
        bert = text.get('encoder') or {}
        for part in (text, bert):  # the checkpoint has the vocabulary and BERT's weights
            for source in ('pretrained', 'vocab_file'):
                if part.get(source) and not os.path.exists(part[source]):
                    part[source] = None
        embedding = self._weights.get('text_encoder.embed.weight')
        if embedding is not None:
            text['vocab_size'] = len(embedding)

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raises ``ValueError`` for a model without a vocabulary or one embedding a picture."""
        if not isinstance(model, ImageTextMatcher):
            raise InputError(f'{type(model).__name__}: expected an ImageTextMatcher')
        if not isinstance(model.similarity, CosineSimilarity):
            raise InputError(
                f'{type(model.similarity).__name__}: it compares every region with every word; '
                'an index needs a model with one embedding a picture (CosineSimilarity)'
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
            return None  # regions: refused where a picture is given
        return super()._init_pipeline(cfg)

    def _space(self) -> str:
        """Names what embeddings depend on besides their content: model, weights, pipeline."""
        steps = [] if self.pipeline is None else [self._file_loader, *self.pipeline.transforms]
        digest = hashlib.sha256(_settings(self.cfg.model).encode())
        digest.update('\n'.join(map(repr, steps)).encode())
        for name, value in self.model.state_dict().items():
            digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    # --------------------------------------------------------------------------- embeddings

    def encode_pictures(
        self, inputs: ImageInput | Sequence[ImageInput], batch_size: int = 32
    ) -> np.ndarray:
        """Embeddings (N, C) float32 of pictures: paths, a folder, BGR arrays or PIL images.

        Raises:
            FileNotFoundError: There is no such picture.
            ValueError: A picture cannot be read, or the model reads precomputed regions.
        """
        if self.model.backbone is None:
            raise InputError(
                'this model was trained on precomputed regions and cannot read pictures; use one '
                'with an image backbone (the setting `backbone` of its config)'
            )
        images = self._inputs_to_list(inputs)

        def encode(part: Sequence[ImageInput]) -> torch.Tensor:
            loaded = [self._load(image)[1] for image in part]
            batch = {key: [each[key] for each in loaded] for key in ('inputs', 'data_samples')}
            data = self.model.data_preprocessor(batch, False)
            return self.model.encode_images(data['inputs'])[0]

        return self._encode(images, encode, batch_size, 'pictures', _picture_bytes)

    def encode_sentences(self, sentences: str | Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Embeddings (N, C) float32 of sentences.

        Raises:
            ValueError: A sentence has no words.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        for sentence in sentences:
            if not isinstance(sentence, str) or not sentence.strip():
                raise InputError(f'sentence {sentence!r}: expected words')

        def encode(part: Sequence[str]) -> torch.Tensor:
            return self.model.encode_captions(part)[0]

        return self._encode(sentences, encode, batch_size, 'sentences', _sentence_bytes)

    @torch.no_grad()
    def _encode(self, items: list, encode, batch_size: int, what: str, content) -> np.ndarray:
        """Batches of what the cache does not have; each is kept as soon as it is computed."""
        if batch_size < 1:
            raise InputError(f'batch_size={batch_size}: expected at least 1')
        if not items:
            raise InputError(f'no {what} are given')
        rows: dict[int, np.ndarray] = {}
        keys: dict[int, bytes] = {}
        if self.cache is not None:
            for i, item in enumerate(items):
                data = content(item)
                if data is not None:
                    keys[i] = self.cache.key(what.encode() + b'\0' + data)
                    found = self.cache.get(keys[i])
                    if found is not None:
                        rows[i] = found
        todo = [i for i in range(len(items)) if i not in rows]
        batches = [todo[s : s + batch_size] for s in range(0, len(todo), batch_size)]
        quiet: dict[str, Any] = (
            {}
            if self.show_progress and len(batches) > 1
            else dict(style='lines', interval=float('inf'))
        )
        with progress_bar(len(batches), what, 'batch', **quiet) as bar:
            for part in batches:
                with fast_products():
                    made = encode([items[i] for i in part]).float().cpu().numpy()
                if self.cache is not None:
                    kept = [j for j, i in enumerate(part) if i in keys]
                    self.cache.put([keys[part[j]] for j in kept], made[kept])
                rows.update(zip(part, made))
                bar.update()
        return np.stack([rows[i] for i in range(len(items))])

    # ------------------------------------------------------------------------------ gallery

    def open_store(self, uri: str | os.PathLike, **kwargs: Any) -> VectorStore:
        """The gallery of a URI for this model; see :func:`projects.rvse.retrieval.open_store`."""
        return open_store(uri, self.space, **kwargs)

    def index(
        self,
        gallery: str | os.PathLike | Sequence[str | os.PathLike],
        store: str | os.PathLike | VectorStore,
        batch_size: int = 32,
        skip_damaged: bool = False,
    ) -> int:
        """Adds pictures, or sentences, to a store; what is there by the same name is replaced.

        Args:
            gallery: A folder of pictures, paths of pictures, a text file with a sentence a line,
                or sentences (in a list, what names no file is a sentence).
            store: A URI or an open store.
            batch_size: Pictures at once.
            skip_damaged: Leave pictures out that cannot be read, with a warning for each, rather
                than to stop.

        Returns:
            How many entries were added.

        Raises:
            FileNotFoundError: There is no such picture, folder or file.
            ValueError: A picture cannot be read, or the store is another model's.
        """
        names, pictures = _gallery(gallery, self._inputs_to_list)
        opened = store if isinstance(store, VectorStore) else self.open_store(store)
        try:
            if not pictures:
                opened.add(names, self.encode_sentences(names))
            elif skip_damaged:
                names = self._index_readable(names, opened, batch_size)
            else:
                opened.add(names, self.encode_pictures(names, batch_size))
            opened.save()
        finally:
            if opened is not store:
                opened.close()
        return len(names)

    def _index_readable(self, names: list[str], store: VectorStore, batch_size: int) -> list[str]:
        done = []
        for start in range(0, len(names), batch_size):
            part = names[start : start + batch_size]
            try:
                vectors = list(self.encode_pictures(part, batch_size))
            except ValueError:  # one of them: each for itself
                vectors, readable = [], []
                for name in part:
                    try:
                        vectors.append(self.encode_pictures([name])[0])
                        readable.append(name)
                    except ValueError as error:
                        print_log(f'left out: {error}', 'current', logging.WARNING)
                part = readable
            if part:
                store.add(part, np.stack(vectors))
            done += part
        return done

    def __call__(
        self,
        queries: str | ImageInput | Sequence[str | ImageInput],
        store: str | os.PathLike | VectorStore,
        top_k: int = 5,
    ) -> list[list[Hit]]:
        """Finds what fits best.

        Args:
            queries: One or several; an array, a PIL image or the path of an existing picture file
                is a picture, any other text a sentence.
            store: A URI or an open store.
            top_k: Entries to find.

        Returns:
            For each query the best entries, best first; a score is the cosine.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: It is empty or another model's.
        """
        asked: list[Any] = list(queries) if isinstance(queries, (list, tuple)) else [queries]
        vectors = [
            self.encode_pictures([q])[0] if _is_picture(q) else self.encode_sentences(q)[0]
            for q in asked
        ]
        return self.find(np.stack(vectors), store, top_k)

    def find(
        self, vectors: np.ndarray, store: str | os.PathLike | VectorStore, top_k: int = 5
    ) -> list[list[Hit]]:
        """The same for embeddings (N, C); what a stranger typed is so never taken for a path.

        Raises:
            FileNotFoundError: The store does not exist.
            ValueError: It is empty or another model's.
        """
        if top_k < 1:
            raise InputError(f'top_k={top_k}: expected at least 1')
        opened = store if isinstance(store, VectorStore) else self.open_store(store, create=False)
        try:
            return opened.search(vectors, top_k)
        finally:
            if opened is not store:
                opened.close()


def _settings(model: ConfigDict) -> str:
    """A model's config however it was written, without where its weights once came from."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            left_out = ('pretrained', 'vocab_file', 'vocab_size', 'init_cfg')
            return {k: plain(v) for k, v in sorted(value.items()) if k not in left_out}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return json.dumps(plain(model), default=repr)


def _is_picture(query: object) -> bool:
    if not isinstance(query, str):
        return True
    try:
        return os.path.isfile(query)
    except (OSError, ValueError):
        return False


def _picture_bytes(image: ImageInput) -> bytes | None:
    """The content of a picture file; what is no file is not cached."""
    if isinstance(image, (str, os.PathLike)) and os.path.isfile(image):
        return Path(image).read_bytes()
    return None


def _sentence_bytes(sentence: str) -> bytes:
    return sentence.encode()


def _gallery(gallery: Any, list_pictures) -> tuple[list[str], bool]:
    """Names of the entries, and whether they are pictures."""
    if isinstance(gallery, (str, os.PathLike)):
        path = os.fspath(gallery)
        if path.endswith('.txt'):
            lines = Path(path).read_text(encoding='utf-8').splitlines()
            sentences = [line.strip() for line in lines if line.strip()]
            if not sentences:
                raise InputError(f'{path}: no sentence, expected one a line')
            return sentences, False
        if not os.path.exists(path):
            raise FileNotFoundError(f'gallery {path}: no such folder, picture or text file')
        return [os.fspath(p) for p in list_pictures(path)], True
    names = [os.fspath(entry) for entry in gallery]
    files = [_is_picture(name) for name in names]
    if any(files) and not all(files):
        raise InputError(
            f'gallery: {names[files.index(False)]!r} is no file, but others are; a call adds '
            'pictures or sentences'
        )
    return names, bool(names) and all(files)
