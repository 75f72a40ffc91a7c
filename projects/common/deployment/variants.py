"""Smaller variants of exported networks: float16, and int8 weights."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .network import require

__all__ = ['DTYPES', 'convert']

DTYPES = ('fp32', 'fp16', 'int8')
# What onnxruntime's quantization replaces: products with weights. Convolutions stay in float32,
# because int8 ones need statistics of activations.
QUANTIZED = ('MatMul', 'Gemm')


def convert(path: str | os.PathLike, dtype: str) -> None:
    """Convert a float32 network in place.

    Args:
        path: The ``.onnx`` file.
        dtype: 'fp16' computes in float16, apart from operators that onnxruntime has in float32
            only; inputs and outputs stay float32. 'int8' stores the weights of matrix products in
            8 bits and quantizes what they are multiplied with by its range in each call
            (onnxruntime's dynamic quantization). 'fp32' changes nothing.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
    """
    if dtype == 'fp32':
        return
    require(('onnx', 'onnxruntime'), f'the conversion to {dtype}')
    path = Path(path)
    if dtype == 'fp16':
        _to_float16(path)
    else:
        _to_int8(path)


def _to_float16(path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    blocked = [*DEFAULT_OP_BLOCK_LIST, 'MaxRoiPool', 'RoiAlign', 'GRU', 'TopK']
    model = convert_float_to_float16(
        onnx.load(path), keep_io_types=True, op_block_list=blocked, disable_shape_infer=False
    )
    # An operator in float32 that reads a value twice gets two equal casts of it, which is no graph.
    made: set[str] = set()
    again: list[int] = []
    for index, node in enumerate(model.graph.node):
        if node.op_type == 'Cast' and node.output[0] in made:
            again.append(index)
        made.update(node.output)
    for index in reversed(again):
        del model.graph.node[index]
    onnx.save(model, path)


def _to_int8(path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    # onnxruntime transposes weights, and then finds the noted shapes of the others in its way.
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder, 'int8.onnx')
        quantize_dynamic(
            model,
            written,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={'MatMulConstBOnly': True},
        )
        os.replace(written, path)
