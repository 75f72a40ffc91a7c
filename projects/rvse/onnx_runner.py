"""An exported matcher without PyTorch: embeddings of images and sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from projects.common.deployment.images import ImageInput, load_image, resize, stack_rgb
from projects.common.deployment.network import Network
from projects.common.deployment.sidecar import read_sidecar
from projects.common.deployment.tokens import Tokens, check_sentences, pad_rows
from projects.common.errors import InputError

from .text import Vocabulary

__all__ = ['ONNXMatcher']


class ONNXMatcher:
    """Compute embeddings of images and sentences with onnxruntime.

    The similarity of an image and a sentence is the product of their embeddings, the cosine.

    Args:
        description: The ``.json`` file that ``tools/deployment/export_onnx.py`` writes.
        threads: Number of threads. None leaves it to onnxruntime.
        providers: Execution providers of onnxruntime.

    Raises:
        FileNotFoundError: A file does not exist.
        ImportError: onnxruntime is not installed.
        InputError: The files are not an exported matcher with a vocabulary.

    Examples:
        >>> match = ONNXMatcher('rvse.json')                               # doctest: +SKIP
        >>> images = match.encode_images(['a.jpg', 'b.jpg'])               # doctest: +SKIP
        >>> images @ match.encode_sentences('a dog on a beach').T          # doctest: +SKIP
    """

    def __init__(
        self,
        description: str | os.PathLike,
        threads: int | None = None,
        providers: tuple[str, ...] = ('CPUExecutionProvider',),
    ) -> None:
        self.description = read_sidecar(description, 'rvse')
        self._tokens: Tokens | None = None
        if 'words' in self.description:
            self._vocabulary = Vocabulary(self.description['words'])
        elif 'tokenizer' in self.description:
            self._tokens = Tokens(self.description['tokenizer'])
        else:
            raise InputError(f'{description}: no vocabulary; export a model that has one')
        files = self.description['networks']
        self.image_network = Network(files['image'], threads, providers)
        self.text_network = Network(files['text'], threads, providers)

    def encode_images(
        self, images: ImageInput | Sequence[ImageInput], batch_size: int = 32
    ) -> np.ndarray:
        """Compute the embeddings (N, C) float32 of images.

        Large JPEGs are decoded at their full size; the inferencer decodes some at a part of it.

        Args:
            images: Paths, contents of files, arrays (H, W, 3) uint8 in BGR or PIL images.
            batch_size: Number of images per batch.

        Raises:
            FileNotFoundError: An image does not exist.
            InputError: An image cannot be read, or the model reads regions.
        """
        if 'image' not in self.image_network.inputs:
            raise InputError('this model reads precomputed regions; use encode_regions')
        given: list[Any] = list(images) if isinstance(images, (list, tuple)) else [images]
        found = []
        for start in range(0, len(given), batch_size):
            batch = [
                resize(load_image(image), self.description['resize'])
                for image in given[start : start + batch_size]
            ]
            found.append(self.image_network(image=stack_rgb(batch))['embeddings'])
        return np.concatenate(found)

    def encode_regions(self, regions: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Compute the embeddings (B, C) float32 of images from regions.

        Args:
            regions: (B, N, C_in) float32.
            lengths: (B,), numbers of regions. None means N.

        Raises:
            InputError: The model reads images, or the shapes do not fit.
        """
        if 'regions' not in self.image_network.inputs:
            raise InputError('this model reads images; use encode_images')
        regions = np.asarray(regions, dtype=np.float32)
        if regions.ndim != 3:
            raise InputError(f'regions of shape {regions.shape}: expected (B, N, C)')
        if lengths is None:
            lengths = np.full(len(regions), regions.shape[1])
        lengths = np.asarray(lengths, dtype=np.int64)
        if lengths.shape != (len(regions),):
            raise InputError(f'lengths of shape {lengths.shape}: expected ({len(regions)},)')
        arrays = dict(regions=regions, lengths=lengths)
        known = {name: each for name, each in arrays.items() if name in self.image_network.inputs}
        return self.image_network(**known)['embeddings']

    def encode_sentences(self, sentences: str | Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Compute the embeddings (N, C) float32 of sentences.

        Raises:
            InputError: There is no sentence, or one is empty or too long.
        """
        given = check_sentences(sentences)
        found = []
        for start in range(0, len(given), batch_size):
            ids, lengths = self._tokenize(given[start : start + batch_size])
            found.append(self.text_network(input_ids=ids, lengths=lengths)['embeddings'])
        return np.concatenate(found)

    def _tokenize(self, sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (B, L) and lengths (B,)."""
        if self._tokens is not None:
            return self._tokens(sentences)
        longest = self.description['max_tokens']
        rows = [self._vocabulary.encode(sentence) for sentence in sentences]
        for sentence, row in zip(sentences, rows):
            if len(row) > longest:
                raise InputError(
                    f'sentence {sentence[:40]!r}...: {len(row)} words, expected at most {longest}'
                )
        return pad_rows(rows, Vocabulary.pad_id)
