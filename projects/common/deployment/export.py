"""Export of modules to ONNX, and their comparison with onnxruntime."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from .network import Network, require

__all__ = ['EXPORTER', 'differences', 'export_graph', 'exporting']

EXPORTER = ('onnx', 'onnxscript')


@contextlib.contextmanager
def exporting() -> Iterator[None]:
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


def export_graph(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: str | os.PathLike,
    dynamic: Mapping[str, Mapping[int, Any]],
    opset: int = 18,
    translations: Mapping[Any, Callable] | None = None,
    hint: str = '',
) -> None:
    """Write a module as an ONNX file.

    Args:
        graph: Module in evaluation mode, on the CPU. It takes the inputs in order.
        inputs: Examples of the inputs, by name.
        outputs: Names of the outputs, in order.
        path: File to write. Its folder is made.
        dynamic: For each input, the symbols of its dimensions that are not fixed.
        opset: ONNX opset.
        translations: See ``custom_translation_table`` of ``torch.onnx.export``.
        hint: What the user can do if the module cannot be traced, for the message.

    Raises:
        ImportError: The exporter is not installed.
        InputError: The exporter cannot trace the module, or fixes a size that was to vary.
    """
    require(EXPORTER, 'the export to ONNX')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), exporting():
        try:
            torch.onnx.export(
                graph,
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(dict(dynamic.get(name, {})) for name in inputs),
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
                custom_translation_table=dict(translations or {}),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            lines = str(cause).strip().splitlines() or ['no reason given']
            raise InputError(
                f'{type(graph).__name__}: the exporter cannot trace this model '
                f'({type(cause).__name__}: {lines[0]}){hint}'
            ) from error
    _check_dynamic(path, dynamic)


def _check_dynamic(path: Path, dynamic: Mapping[str, Mapping[int, Any]]) -> None:
    """Raise ``InputError`` if the exporter has fixed a dimension that was to vary."""
    import onnx

    for node in onnx.load(path, load_external_data=False).graph.input:
        sizes = node.type.tensor_type.shape.dim
        for axis in dynamic.get(node.name, {}):
            if not sizes[axis].dim_param:
                raise InputError(
                    f'{path}: {node.name}: dimension {axis} is fixed to {sizes[axis].dim_value} '
                    'by an operation of the model; expected any size'
                )


@torch.no_grad()
def differences(
    graph: nn.Module, network: Network, cases: Sequence[Mapping[str, Tensor]]
) -> dict[str, float]:
    """Compute the largest absolute difference of each output between a module and its export.

    Args:
        graph: The module, on the CPU.
        network: Its export.
        cases: Inputs to compare them on, by name.

    Raises:
        InputError: An output has another shape.
    """
    errors = dict.fromkeys(network.outputs, 0.0)
    for inputs in cases:
        expected = graph(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        kept = {name: each.numpy() for name, each in inputs.items() if name in network.inputs}
        found = network(**kept)
        for (name, theirs), ours in zip(found.items(), expected, strict=True):
            if ours.shape != theirs.shape:
                raise InputError(f'{name} is {theirs.shape}, expected {tuple(ours.shape)}')
            if ours.numel():
                errors[name] = max(errors[name], float(np.abs(ours.numpy() - theirs).max()))
    return errors
