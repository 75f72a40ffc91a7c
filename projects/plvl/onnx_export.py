"""ONNX export of PLVL: image and token ids as input, box, score and mask as output."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.common.errors import InputError
from projects.common.text import BERTTextEncoder

from .models import PLVL, CollaborativeHead, GeneralizedHead

__all__ = ['GroundingGraph', 'compare', 'export_onnx', 'require']

EXPORTER = ('onnx', 'onnxscript')
RUNTIME = ('onnxruntime',)


class GroundingGraph(nn.Module):
    """Wrap the whole model, from pixels, as a function of tensors.

    Args:
        model: The detector, with :class:`CollaborativeHead`.

    Raises:
        ValueError: If the model is of another kind.
    """

    mean: Tensor
    std: Tensor

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
        preprocessor = model.data_preprocessor
        # Pipelines load BGR, and the model reads BGR if the preprocessor does not convert it.
        self.flip_channels = not preprocessor._channel_conversion
        self.register_buffer('mean', preprocessor.mean.clone())
        self.register_buffer('std', preprocessor.std.clone())

    @property
    def output_names(self) -> list[str]:
        """Return the names of the outputs of :meth:`forward`, in order."""
        names = ['box', 'score'] if self.model.head.predicts_boxes else []
        return names + (['mask_logits'] if self.model.head.predicts_masks else [])

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
        image = image.flip(1) if self.flip_channels else image
        image = (image - self.mean) / self.std
        head = self.model.head
        outputs = head(self.model.extract_feat(image, input_ids, attention_mask))
        results: list[Tensor] = []
        if head.predicts_boxes:
            box, score = head.decode(outputs)
            results += [box_convert(box, 'cxcywh', 'xyxy').clamp(0, 1), score]
        if head.predicts_masks:
            results.append(outputs['mask'][:, 0])
        return tuple(results)


def require(modules: tuple[str, ...], what: str) -> None:
    """Raise an ``ImportError`` that names the missing modules and how to install them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'{what} needs {", ".join(missing)}: pip install {" ".join(missing)}')


@contextlib.contextmanager
def _exporting() -> Iterator[None]:
    """Disable fused inference kernels, which ONNX lacks, and silence the exporter's notes.

    The exporter reports every constant folding that it skips.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logger = logging.getLogger('onnxscript.optimizer')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fused)


def example_inputs(
    graph: GroundingGraph, image_size: tuple[int, int], batch: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Generate noise images and random token sentences of different lengths."""
    encoder = graph.model.text_encoder
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((batch, 3, *image_size), generator=generator) * 255
    tokens, length = encoder.bert.config.vocab_size, encoder.max_tokens
    ids = torch.randint(0, tokens, (batch, length), generator=generator)
    lengths = torch.randint(3, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length) < lengths).long()
    return image, ids * mask, mask


def export_onnx(
    model: PLVL, path: str | os.PathLike, image_size: tuple[int, int], opset: int = 18
) -> None:
    """Export the model to ONNX for any batch size, with its vocabulary next to it.

    Inputs and outputs are named as in :class:`GroundingGraph`. ``<path>.vocab.txt`` holds
    the word pieces in the order of their ids.

    Args:
        model: The model, on the CPU.
        path: File to write.
        image_size: (H, W) of the images, in pixels.
        opset: ONNX opset.

    Raises:
        ImportError: If the exporter is not installed; the message tells what to install.
        ValueError: If the model cannot be exported.
    """
    require(EXPORTER, 'the export to ONNX')
    if not isinstance(model.text_encoder, BERTTextEncoder):
        raise InputError(
            f'text_encoder: {type(model.text_encoder).__name__}; only BERTTextEncoder is exported, '
            'with its vocabulary'
        )
    graph = GroundingGraph(model).eval()
    names = ('image', 'input_ids', 'attention_mask')
    batch = torch.export.Dim('batch')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _exporting():
        torch.onnx.export(
            graph,
            example_inputs(graph, image_size, batch=2),
            str(path),
            input_names=list(names),
            output_names=graph.output_names,
            dynamic_shapes={name: {0: batch} for name in names},
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    tokenizer = model.text_encoder.tokenizer
    if tokenizer is not None:
        tokenizer.save(path.with_name(f'{path.name}.vocab.txt'))


@torch.no_grad()
def compare(
    model: PLVL, path: str | os.PathLike, image_size: tuple[int, int], batches: tuple = (1, 3)
) -> dict[str, float]:
    """Compute the largest differences between the model and its export in onnxruntime on noise.

    Args:
        model: The model, on the CPU.
        path: File written by :func:`export_onnx`.
        image_size: (H, W) of the images, in pixels.
        batches: Batch sizes to test.

    Returns:
        The largest absolute difference of each output, by name.

    Raises:
        ImportError: If onnxruntime is not installed.
    """
    require(RUNTIME, 'the comparison')
    import onnxruntime

    graph = GroundingGraph(model).eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    errors = dict.fromkeys(graph.output_names, 0.0)
    for seed, batch in enumerate(batches):
        inputs = example_inputs(graph, image_size, batch, seed)
        feed = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs)}
        for name, ours, theirs in zip(errors, graph(*inputs), session.run(None, feed)):
            if ours.shape != theirs.shape:
                raise InputError(f'{path}: {name} is {theirs.shape}, expected {tuple(ours.shape)}')
            errors[name] = max(errors[name], float(np.abs(ours.numpy() - theirs).max()))
    return errors
