"""Inference with a matching model: its vocabulary, its images, and how they are read."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS
from PIL import Image
from torch import Tensor, nn

from projects.common.errors import InputError
from projects.common.files.annotation_files import is_utf8
from projects.common.files.reduced_decoding import (
    Resized,
    decode_reduced,
    resized_by,
    unread_content,
)
from projects.common.inferencer import ImageInferencer, ImageInput
from projects.common.weights.sources import PACKAGE, use_stored_arguments

from .. import register  # noqa: F401
from ..models import (
    BERTCaptionEncoder,
    BiGRUTextEncoder,
    ImageTextMatcher,
    TransformersTextEncoder,
)

__all__ = ['MatcherInferencer']

_PIL_LOCK = threading.Lock()


class MatcherInferencer(ImageInferencer):
    """Run the two encoders of an :class:`ImageTextMatcher`; see :class:`ImageInferencer`."""

    calibration_kind = 'matching'

    resized: Resized | None = None
    """What the pipeline reduces images to. Large JPEGs are decoded at a part of their size."""

    def prepare_model(self, model: ConfigDict, weights: str | os.PathLike) -> None:
        """Clear missing paths: the checkpoint contains the vocabulary and the weights."""
        for name in ('backbone', 'text_encoder'):
            part: Any = model.get(name) or {}
            stored = use_stored_arguments(part, self._weights.get(f'{name}._extra_state'))
            if not stored and str(part.get('pretrained')).startswith(PACKAGE):
                part['pretrained'] = None
        text = model.get('text_encoder', {})
        bert = text.get('encoder')
        for part in (text, bert if isinstance(bert, dict) else {}):
            for source in ('pretrained', 'vocab_file'):
                if part.get(source) and not os.path.exists(part[source]):
                    part[source] = None
        embedding = self._weights.get('text_encoder.embed.weight')
        kind = MODELS.get(text.get('type', ''))
        ours = isinstance(kind, type) and issubclass(kind, BiGRUTextEncoder)
        if embedding is not None and ours:
            text['vocab_size'] = len(embedding)

    def is_pretrained(self, model: ConfigDict) -> bool:
        """Return whether both encoders name weights and nothing else has any."""
        parts = [model.get(name) or {} for name in ('backbone', 'text_encoder')]
        whole = (model.get('image_encoder') or {}).get('type') == 'RegionMean'
        return whole and all(p.get('pretrained') and not p.get('channels') for p in parts)

    def check_model(self, model: nn.Module, weights: str | os.PathLike | None) -> None:
        """Raise ``ValueError`` unless the model is a matcher whose encoder of text can be used."""
        if not isinstance(model, ImageTextMatcher):
            raise InputError(f'{type(model).__name__}: expected an ImageTextMatcher')
        encoder = model.text_encoder
        if not callable(getattr(encoder, 'tokenize', None)):
            raise InputError(
                f'text_encoder {type(encoder).__name__}: it has no method `tokenize`, which maps '
                'captions to the arguments of `forward`'
            )
        if (isinstance(encoder, BiGRUTextEncoder) and encoder.vocabulary is None) or (
            isinstance(encoder, (BERTCaptionEncoder, TransformersTextEncoder))
            and encoder.tokenizer is None
        ):
            raise InputError(
                f'weights {weights}: hold no vocabulary, and text_encoder of the config names none'
            )

    def _init_pipeline(self, cfg: Config):
        if cfg.model.get('backbone') is None:
            return None  # a model of regions cannot load images
        pipeline = super()._init_pipeline(cfg)
        if self._file_loader.transforms[0].color_type == 'color':
            self.resized = resized_by(pipeline.transforms)
        return pipeline

    def _decode(self, image: bytes | np.ndarray | Image.Image, name: str) -> np.ndarray:
        """Decode a large JPEG at a part of its size, and anything else as usual."""
        # A PIL image, or its file, may be given several times, but only one thread may load it.
        with _PIL_LOCK if isinstance(image, Image.Image) else contextlib.nullcontext():
            if self.resized is not None:
                content = unread_content(image) if isinstance(image, Image.Image) else image
                if isinstance(content, bytes):
                    reduced = decode_reduced(content, name, self.resized, self.max_pixels)
                    if reduced is not None:
                        return reduced
            return super()._decode(image, name)

    def _load_sample(self, image: ImageInput, path: str | None = None) -> dict[str, Any]:
        """Return what the model reads, for a path or for the content of a file."""
        if isinstance(image, (str, os.PathLike)):
            return self._load(image)[1]
        return self._load_content(image, path)[1]

    def _encode_samples(self, samples: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Compute the embeddings of images, and their numbers of regions (B,)."""
        batch = {key: [each[key] for each in samples] for key in ('inputs', 'data_samples')}
        data = self.model.data_preprocessor(batch, False)
        return self.model.encode_images(data['inputs'])

    def _encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Compute the embeddings (N, C) of sentences, if there is one for each."""
        vectors = self.model.encode_captions(sentences)[0]
        if vectors.dim() != 2 or len(vectors) != len(sentences):
            raise InputError(
                f'text_encoder: embeddings of shape {tuple(vectors.shape)} for {len(sentences)} '
                'sentences, expected one vector each'
            )
        return vectors

    def check_images(self) -> None:
        """Raise ``ValueError`` if the model cannot read images."""
        if self.model.backbone is None:
            raise InputError(
                'this model was trained on precomputed regions and cannot read images; use one '
                'with an image backbone (the setting `backbone` of its config)'
            )

    def unknown_words(self, sentence: str) -> list[str]:
        """Return the words of a sentence that the model does not know, in order.

        An encoder of text that has no method ``unknown_words`` knows all of them.
        """
        find = getattr(self.model.text_encoder, 'unknown_words', None)
        found = [] if find is None else find(sentence)
        # marks are no words
        return list(dict.fromkeys(word for word in found if any(map(str.isalnum, word))))

    def warn_of_unknown_words(self, sentence: str) -> None:
        """Log which words of a sentence the model does not know, if there are any."""
        unknown = self.unknown_words(self._sentences(sentence)[0])
        if unknown:
            words = ', '.join(map(repr, unknown))
            message = f'query {sentence!r}: the model does not know {words}'
            print_log(message, 'current', logging.WARNING)

    @staticmethod
    def _sentences(sentences: str | Sequence[str]) -> list[str]:
        """Return sentences as a list.

        Raises:
            ValueError: A sentence is empty.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        for sentence in sentences:
            if not isinstance(sentence, str) or not sentence.strip() or not is_utf8(sentence):
                raise InputError(f'sentence {sentence!r}: expected words in UTF-8')
        return sentences
