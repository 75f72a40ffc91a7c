"""ONNX export of a matcher: one network for images or regions, one for sentences."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.common.deployment.export import EXPORTER, differences, export_graph
from projects.common.deployment.images import resize, stack_rgb
from projects.common.deployment.network import Network, require
from projects.common.deployment.pixels import Normalization
from projects.common.deployment.sidecar import network_path, write_sidecar
from projects.common.deployment.variants import convert
from projects.common.errors import InputError

from .models import (
    BERTCaptionEncoder,
    BiGRUTextEncoder,
    CosineSimilarity,
    ImageTextMatcher,
    RegionEncoder,
)
from .models.gru import gru_as_operator

__all__ = ['ImageGraph', 'TextGraph', 'compare', 'export_onnx']

LONGEST = 512  # tokens of a sentence for encoders that have no limit
REGIONS = 36  # of an example


class ImageGraph(nn.Module):
    """Wrap the image side of a matcher, from pixels or regions, as a function of tensors.

    Args:
        model: A matcher with one embedding for each image.

    Raises:
        InputError: The model is of another kind.
    """

    def __init__(self, model: ImageTextMatcher) -> None:
        super().__init__()
        if type(model) is not ImageTextMatcher:
            raise InputError(f'{type(model).__name__}: only ImageTextMatcher can be exported')
        if not isinstance(model.similarity, CosineSimilarity):
            raise InputError(
                f'similarity {type(model.similarity).__name__}: it compares every region with '
                'every word; only models with one embedding an image (CosineSimilarity) can be '
                'exported'
            )
        self.model = model
        self.reads_images = model.backbone is not None
        if self.reads_images:
            self.normalization = Normalization(model.data_preprocessor)

    @property
    def input_names(self) -> list[str]:
        """Return the names of the arguments of :meth:`forward`."""
        return ['image'] if self.reads_images else ['regions', 'lengths']

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the embeddings (B, C), of unit length.

        Args:
            inputs: Images (B, 3, H, W), RGB from 0 to 255, or regions (B, N, C_in).
            lengths: (B,) int64, numbers of regions; unused for images.
        """
        if self.reads_images:
            inputs = self.model.grid_features(self.normalization(inputs))
            lengths = torch.full_like(inputs[:, 0, 0], inputs.shape[1], dtype=torch.long)
        return self.model.image_encoder(inputs, lengths)[0]


class TextGraph(nn.Module):
    """Wrap the text side of a matcher as a function of token ids.

    Args:
        model: A matcher whose text encoder has a pool.

    Raises:
        InputError: The encoder is of another kind.
    """

    def __init__(self, model: ImageTextMatcher) -> None:
        super().__init__()
        encoder = model.text_encoder
        if not isinstance(encoder, (BiGRUTextEncoder, BERTCaptionEncoder)):
            raise InputError(
                f'text_encoder {type(encoder).__name__}: only BiGRUTextEncoder and '
                'BERTCaptionEncoder can be exported'
            )
        self.encoder = encoder

    @property
    def longest(self) -> int:
        """Return the largest number of tokens of a sentence."""
        return getattr(getattr(self.encoder, 'encoder', None), 'max_tokens', LONGEST)

    @property
    def num_tokens(self) -> int:
        """Return the number of rows of the embedding."""
        if isinstance(self.encoder, BiGRUTextEncoder):
            return self.encoder.embed.num_embeddings
        return self.encoder.encoder.bert.config.vocab_size

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Compute the embeddings (B, C), of unit length, of ids (B, L) and lengths (B,)."""
        return self.encoder(input_ids, lengths)[0]


def gru_translation() -> dict[Any, Callable]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export`` for ``mmtriad::gru``.

    ONNX's GRU orders the gates as z, r, n, PyTorch's as r, z, n. It reads the lengths, from which
    its backward direction starts, and is zero beyond them.

    Raises:
        ImportError: onnxscript is not installed.
    """
    from onnxscript import opset18

    op: Any = opset18  # its types are those of eager calls

    def reordered(weight: Any) -> Any:
        reset, update, new = op.Split(weight, num_outputs=3, axis=0)
        return op.Concat(update, reset, new, axis=0)

    def gru(x: Any, lengths: Any, weights: Sequence[Any], hidden: int) -> Any:
        first = op.Constant(value_ints=[0])
        stacked: list[list[Any]] = [[], [], []]
        for start in range(0, len(weights), 4):
            from_input, from_hidden, *biases = map(reordered, weights[start : start + 4])
            parts = (from_input, from_hidden, op.Concat(*biases, axis=0))
            for found, part in zip(stacked, parts):
                found.append(op.Unsqueeze(part, first))
        both = len(weights) == 8
        states, _ = op.GRU(
            op.Transpose(x, perm=[1, 0, 2]),
            *(op.Concat(*parts, axis=0) for parts in stacked),
            op.Cast(lengths, to=6),
            direction='bidirectional' if both else 'forward',
            hidden_size=hidden,
            linear_before_reset=1,
        )  # (L, directions, B, C)
        shape = op.Constant(value_ints=[0, 0, -1])
        return op.Reshape(op.Transpose(states, perm=[2, 0, 1, 3]), shape)

    return {torch.ops.mmtriad.gru.default: gru}


def _example_images(graph: ImageGraph, size: tuple[int, int], batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    if graph.reads_images:
        return {'image': torch.rand((batch, 3, *size), generator=generator) * 255}
    encoder = graph.model.image_encoder
    if not isinstance(encoder, RegionEncoder):
        raise InputError(f'image_encoder {type(encoder).__name__}: expected a RegionEncoder')
    regions = torch.rand((batch, REGIONS, encoder.fc.in_features), generator=generator)
    lengths = torch.randint(1, REGIONS + 1, (batch,), generator=generator)
    return {'regions': regions, 'lengths': lengths}


def example_sentences(graph: TextGraph, batch: int, size: int, seed: int) -> dict[str, Tensor]:
    """Generate random ids (batch, size) of sentences of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, graph.num_tokens, (batch, size), generator=generator)
    lengths = torch.randint(1, size + 1, (batch,), generator=generator)
    lengths[0] = size
    return {'input_ids': ids, 'lengths': lengths}


def export_onnx(
    model: ImageTextMatcher,
    path: str | os.PathLike,
    image_size: tuple[int, int],
    opset: int = 18,
    steps: Sequence[Mapping[str, Any]] = (),
    dtype: str = 'fp32',
) -> None:
    """Export both sides for any batch size and any number of tokens or regions.

    ``<stem>.image.onnx`` and ``<stem>.text.onnx`` are the networks, ``<stem>.json`` is what
    :class:`~projects.rvse.onnx_runner.ONNXMatcher` needs, with the vocabulary. The size of images
    is fixed to that of the test pipeline, since the pooling depends on the number of cells.

    Args:
        model: The model, on the CPU.
        path: Name that the names of the files are made of, ending in ``.onnx``.
        image_size: (H, W) of the images, in pixels. Unused for a model of regions.
        opset: ONNX opset.
        steps: Steps of the test pipeline (:func:`~projects.common.deployment.pixels.resize_steps`).
        dtype: See :func:`projects.common.deployment.variants.convert`.

    Raises:
        ImportError: The exporter is not installed.
        InputError: The model cannot be exported.
    """
    images, texts = ImageGraph(model).eval(), TextGraph(model).eval()
    batch = torch.export.Dim('batch')
    files = {name: network_path(path, name) for name in ('image', 'text')}
    sets = {0: batch} if images.reads_images else {0: batch, 1: torch.export.Dim('regions')}
    require(EXPORTER, 'the export to ONNX')
    tokens = torch.export.Dim('tokens', max=texts.longest)
    with gru_as_operator():
        export_graph(
            images,
            _example_images(images, image_size, batch=2),
            ['embeddings'],
            files['image'],
            {images.input_names[0]: sets, 'lengths': {0: batch}},
            opset,
            gru_translation(),
        )
        export_graph(
            texts,
            example_sentences(texts, batch=3, size=min(11, texts.longest), seed=0),
            ['embeddings'],
            files['text'],
            {'input_ids': {0: batch, 1: tokens}, 'lengths': {0: batch}},
            opset,
            gru_translation(),
        )
    for file in files.values():
        convert(file, dtype)
    content = dict(
        project='rvse', dtype=dtype, networks={name: each.name for name, each in files.items()},
        **(images.normalization.described() if images.reads_images else dict(mean=[], std=[])),
        resize=list(steps), image_size=list(image_size) if images.reads_images else [],
        max_tokens=texts.longest, **_vocabulary(texts),
    )  # fmt: skip
    write_sidecar(path, content)


def _vocabulary(graph: TextGraph) -> dict[str, Any]:
    """Return ``words`` or ``tokenizer`` for the description; neither without a vocabulary."""
    encoder = graph.encoder
    if isinstance(encoder, BiGRUTextEncoder):
        return {} if encoder.vocabulary is None else {'words': encoder.vocabulary.words}
    if encoder.tokenizer is None:
        return {}
    return {'tokenizer': encoder.tokenizer.described(graph.longest)}


def compare(
    model: ImageTextMatcher,
    path: str | os.PathLike,
    image_size: tuple[int, int],
    batches: Sequence[int] = (1, 3),
    images: Sequence[np.ndarray] = (),
    steps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, float]:
    """Compute the largest differences between the model and its export in onnxruntime.

    The sentences are random.

    Args:
        model: The model, on the CPU.
        path: Path given to :func:`export_onnx`.
        image_size: (H, W) of the images, in pixels.
        batches: Batch sizes of noise to test if there are no images.
        images: Images (H, W, 3) uint8 in BGR.
        steps: Steps of the test pipeline, which bring images to the input size.

    Returns:
        The largest absolute difference of an embedding's channel, for 'image' and 'text'.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: There are images, but the model reads regions.
    """
    image_graph, text_graph = ImageGraph(model).eval(), TextGraph(model).eval()
    if images and not image_graph.reads_images:
        raise InputError('this model reads precomputed regions and is not checked on images')
    pixels = [{'image': torch.from_numpy(stack_rgb([resize(each, steps)]))} for each in images]
    noise = [_example_images(image_graph, image_size, batch) for batch in batches]
    sizes = range(2, min(text_graph.longest, 20), 5)
    sentences = [example_sentences(text_graph, 4, size, size) for size in sizes]
    found = {}
    for name, graph, cases in (
        ('image', image_graph, pixels or noise),
        ('text', text_graph, sentences),
    ):
        network = Network(network_path(Path(path), name), torch.get_num_threads())
        found[name] = differences(graph, network, cases)['embeddings']
    return found
