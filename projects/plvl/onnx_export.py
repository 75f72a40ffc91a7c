"""ONNX export of PLVL: image and token ids as input, box, score and mask as output."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.common.deployment.export import differences, export_graph
from projects.common.deployment.images import resize, stack_rgb
from projects.common.deployment.network import Network
from projects.common.deployment.pixels import Normalization
from projects.common.deployment.sidecar import write_sidecar
from projects.common.deployment.variants import convert
from projects.common.errors import InputError
from projects.common.text import BERTTextEncoder

from .models import PLVL, CollaborativeHead, GeneralizedHead, LanguageGuidedViT

__all__ = ['GroundingGraph', 'compare', 'export_onnx']

INPUTS = ('image', 'input_ids', 'attention_mask')


class GroundingGraph(nn.Module):
    """Wrap the whole model, from pixels, as a function of tensors.

    Args:
        model: The detector, with :class:`CollaborativeHead`.

    Raises:
        ValueError: If the model is of another kind.
    """

    def __init__(self, model: PLVL) -> None:
        super().__init__()
        any_number = isinstance(model.head, GeneralizedHead)  # no tensors of a fixed size
        known = isinstance(model, PLVL) and isinstance(model.head, CollaborativeHead)
        if not known or any_number:
            raise InputError(
                f'{type(model).__name__} with {type(model.head).__name__}: only PLVL with '
                'CollaborativeHead can be exported'
            )
        self.model = model
        self.normalization = Normalization(model.data_preprocessor)

    @property
    def output_names(self) -> list[str]:
        """Return the names of the outputs of :meth:`forward`, in order."""
        names = ['box', 'score'] if self.model.head.predicts_boxes else []
        return names + (['mask_logits'] if self.model.head.predicts_masks else [])

    @property
    def any_size(self) -> bool:
        """Return whether the backbone can be exported for images of any size."""
        return isinstance(self.model.backbone, LanguageGuidedViT)

    def forward(
        self, image: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute the predictions from pixels and tokens.

        Args:
            image: (B, 3, H, W) float, RGB from 0 to 255, stretched to the input size of the model.
            input_ids: (B, L) int64.
            attention_mask: (B, L) int64, 0 on padding.

        Returns:
            Those that the head predicts of box (B, 4), normalized XYXY clamped to the image;
            score (B,); mask logits (B, h, w).
        """
        head = self.model.head
        features = self.model.extract_feat(self.normalization(image), input_ids, attention_mask)
        outputs = head(features)
        results: list[Tensor] = []
        if head.predicts_boxes:
            box, score = head.decode(outputs)
            results += [box_convert(box, 'cxcywh', 'xyxy').clamp(0, 1), score]
        if head.predicts_masks:
            results.append(outputs['mask'][:, 0])
        return tuple(results)


def example_inputs(
    graph: GroundingGraph, image_size: tuple[int, int], batch: int, tokens: int, seed: int = 0
) -> dict[str, Tensor]:
    """Generate noise images and random token sentences of different lengths up to ``tokens``."""
    encoder = graph.model.text_encoder
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((batch, 3, *image_size), generator=generator) * 255
    vocabulary = encoder.bert.config.vocab_size
    ids = torch.randint(0, vocabulary, (batch, tokens), generator=generator)
    lengths = torch.randint(3, tokens + 1, (batch, 1), generator=generator)
    mask = (torch.arange(tokens) < lengths).long()
    return dict(zip(INPUTS, (image, ids * mask, mask)))


def export_onnx(
    model: PLVL,
    path: str | os.PathLike,
    image_size: tuple[int, int],
    opset: int = 18,
    steps: Sequence[Mapping[str, Any]] | None = None,
    any_size: bool | None = None,
    dtype: str = 'fp32',
) -> None:
    """Export the model to ONNX for any batch size and number of tokens, with its description.

    Inputs and outputs are named as in :class:`GroundingGraph`. ``<path>.vocab.txt`` holds
    the word pieces in the order of their ids, and ``<stem>.json`` what
    :class:`~projects.plvl.onnx_runner.ONNXGrounder` needs.

    Args:
        model: The model, on the CPU.
        path: File to write.
        image_size: (H, W) of the images, in pixels.
        opset: ONNX opset.
        steps: Steps of the test pipeline (:func:`~projects.common.deployment.pixels.resize_steps`).
            None stretches to ``image_size``.
        any_size: Whether H and W may be any multiples of the patch size. None means: if the
            backbone is :class:`LanguageGuidedViT`. Other backbones fix the size.
        dtype: See :func:`projects.common.deployment.variants.convert`.

    Raises:
        ImportError: If the exporter is not installed; the message tells what to install.
        ValueError: If the model cannot be exported.
    """
    if not isinstance(model.text_encoder, BERTTextEncoder):
        raise InputError(
            f'text_encoder: {type(model.text_encoder).__name__}; only BERTTextEncoder is exported, '
            'with its vocabulary'
        )
    graph = GroundingGraph(model).eval()
    any_size = graph.any_size if any_size is None else any_size
    if any_size and not graph.any_size:
        raise InputError(
            f'backbone {type(model.backbone).__name__}: it can only be exported for a fixed size '
            'of images'
        )
    longest = model.text_encoder.max_tokens
    batch, tokens = torch.export.Dim('batch'), torch.export.Dim('tokens', max=longest)
    image_dims = {0: batch}
    if any_size:
        patch = model.backbone.patch_size
        image_dims |= {2: patch * torch.export.Dim('rows'), 3: patch * torch.export.Dim('columns')}
    words = {0: batch, 1: tokens}
    path = Path(path)
    export_graph(
        graph,
        example_inputs(graph, image_size, batch=2, tokens=longest - 1),
        graph.output_names,
        path,
        dict(zip(INPUTS, (image_dims, words, words))),
        opset,
    )
    convert(path, dtype)
    stretched = dict(
        step='scale', size=image_size[::-1], keep_ratio=False, backend='cv2',
        interpolation='bilinear',
    )  # fmt: skip
    content = dict(
        project='plvl', dtype=dtype, networks=dict(grounding=path.name),
        **graph.normalization.described(), resize=list(steps or [stretched]),
        image_size=list(image_size), any_size=any_size,
    )  # fmt: skip
    tokenizer = model.text_encoder.tokenizer
    if tokenizer is not None:
        tokenizer.save(path.with_name(f'{path.name}.vocab.txt'))
        content['tokenizer'] = tokenizer.described(longest)
    write_sidecar(path, content)


def compare(
    model: PLVL,
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
        path: File written by :func:`export_onnx`.
        image_size: (H, W) of the images, in pixels.
        batches: Batch sizes of noise to test if there are no images.
        images: Images (H, W, 3) uint8 in BGR.
        steps: Steps of the test pipeline, which bring images to the input size.

    Returns:
        The largest absolute difference of each output, by name.

    Raises:
        ImportError: If onnxruntime is not installed.
    """
    network = Network(path, torch.get_num_threads())
    graph = GroundingGraph(model).eval()
    longest = model.text_encoder.max_tokens
    if not images:
        cases = [
            example_inputs(graph, image_size, batch, max(3, longest - seed), seed)
            for seed, batch in enumerate(batches)
        ]
        return differences(graph, network, cases)
    cases = []
    for seed, image in enumerate(images):
        pixels = torch.from_numpy(stack_rgb([resize(image, steps)]))
        size = (pixels.shape[2], pixels.shape[3])
        case = example_inputs(graph, size, 1, max(3, longest - seed % longest), seed)
        cases.append({**case, 'image': pixels})
    return differences(graph, network, cases)
