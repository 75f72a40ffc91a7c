"""An exported PLVL without PyTorch: boxes and masks for images and sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from projects.common.deployment.images import ImageInput, load_image, resize, stack_rgb
from projects.common.deployment.network import Network, sigmoid
from projects.common.deployment.sidecar import read_sidecar
from projects.common.deployment.tokens import Tokens, check_sentences
from projects.common.errors import InputError

__all__ = ['ONNXGrounder']


class ONNXGrounder:
    """Localize and segment the objects that sentences refer to, with onnxruntime.

    Args:
        description: The ``.json`` file that ``tools/deployment/export_onnx.py`` writes.
        threads: Number of threads. None leaves it to onnxruntime.
        providers: Execution providers of onnxruntime.

    Raises:
        FileNotFoundError: A file does not exist.
        ImportError: onnxruntime is not installed.
        InputError: The files are not an exported PLVL with a vocabulary.

    Examples:
        >>> ground = ONNXGrounder('plvl.json')                             # doctest: +SKIP
        >>> ground('street.jpg', ['the red car'])[0]['bbox']               # doctest: +SKIP
        [12.5, 80.1, 96.0, 301.7]
    """

    def __init__(
        self,
        description: str | os.PathLike,
        threads: int | None = None,
        providers: tuple[str, ...] = ('CPUExecutionProvider',),
    ) -> None:
        self.description = read_sidecar(description, 'plvl')
        if 'tokenizer' not in self.description:
            raise InputError(f'{description}: no tokenizer; export a model that has a vocabulary')
        self.tokens = Tokens(self.description['tokenizer'])
        self.network = Network(self.description['networks']['grounding'], threads, providers)

    def __call__(self, image: ImageInput, sentences: str | Sequence[str]) -> list[dict[str, Any]]:
        """Ground sentences in an image.

        Args:
            image: A path, the content of a file, an array (H, W, 3) uint8 in BGR or a PIL image.
            sentences: One or several sentences.

        Returns:
            For each sentence a dict with ``sentence``, ``score`` from 0 to 1 and, depending on the
            model, ``bbox`` [x1, y1, x2, y2] in pixels and ``mask`` (H, W) bool.

        Raises:
            FileNotFoundError: The image does not exist.
            InputError: The image cannot be read, or a sentence is empty.
        """
        sentences = check_sentences(sentences)
        picture = load_image(image)
        pixels = stack_rgb([resize(picture, self.description['resize'])])
        ids, lengths = self.tokens(sentences)
        found = self.network(
            image=np.repeat(pixels, len(sentences), axis=0),
            input_ids=ids,
            attention_mask=(np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64),
        )
        return [
            _prediction(sentence, {name: value[i] for name, value in found.items()}, picture.shape)
            for i, sentence in enumerate(sentences)
        ]


def _prediction(
    sentence: str, outputs: dict[str, np.ndarray], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Convert the outputs for a sentence to pixels of the image."""
    height, width = shape[:2]
    prediction: dict[str, Any] = dict(sentence=sentence)
    if 'box' in outputs:
        prediction['bbox'] = (outputs['box'] * [width, height, width, height]).tolist()
        prediction['score'] = float(outputs['score'])
    if 'mask_logits' in outputs:
        logits = outputs['mask_logits'].astype(np.float32)
        probability = sigmoid(logits)
        prediction['mask'] = cv2.resize(probability, (width, height)) >= 0.5
        if 'score' not in prediction:
            inside = probability[probability >= 0.5]
            prediction['score'] = float(inside.mean() if inside.size else probability.max())
    return prediction
