"""Give tensors on the pretended GPU the values that a CPU computes.

The CUDA implementation of an operator runs first, so that whatever it checks, allocates, launches
and waits for happens; its kernels leave the memory as it was. The CPU's implementation, on the same
memory, then provides the values.
"""

from __future__ import annotations

import ctypes
import math
import warnings
from typing import Any

import numpy as np
import sync_norms
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HALVES = (torch.float16, torch.bfloat16)
# Only allocate or read what is there; nothing to compute.
NO_VALUES = {
    'alias', 'detach', 'empty', 'empty_like', 'empty_strided', 'is_pinned', 'lift_fresh',
    '_local_scalar_dense', 'new_empty', 'new_empty_strided', 'record_stream', 'resize_',
    '_reshape_alias', 'set_',
}  # fmt: skip
# The host reads the size of the result: it waits for the GPU.
SIZE_FROM_VALUES = {
    'bincount', 'equal', 'masked_select', 'nms', 'nonzero', 'repeat_interleave',
    'unique_consecutive', 'unique_dim', '_unique2',
}  # fmt: skip
INDEXING = {'index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index'}
# Computed by a library (cuBLAS, cuDNN, cuSOLVER) or with kernels whose results the host reads.
LIBRARY = {
    'addbmm', 'addbmm_', 'addmm', 'addmm_', '_addmm_activation', 'addmv', 'addmv_', 'baddbmm',
    'baddbmm_', 'bmm', 'convolution', 'convolution_backward', 'dot', 'embedding_dense_backward',
    '_linalg_eigh', '_linalg_svd', 'linalg_qr', 'mm', 'mv', '_native_multi_head_attention',
    '_transformer_encoder_layer_fwd', 'vdot',
}  # fmt: skip


class Counts(ctypes.Structure):
    """What runtime.cpp counts."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in ('launches', 'waits', 'to_device', 'to_host', 'on_device', 'pageable')
    ]


def counts() -> Counts:
    """Return the counters of this process; assign 0 to start again."""
    function = ctypes.CDLL(None).pretended_gpu_counts  # AttributeError without the library
    function.restype = ctypes.POINTER(Counts)
    return function().contents


def on_cpu(value: Any) -> Any:
    """Return a CPU tensor on the memory of a tensor on the pretended GPU; others as they are."""
    if not isinstance(value, Tensor) or not value.is_cuda:
        return value
    storage = value.untyped_storage()
    view = torch.empty(0, dtype=value.dtype)
    if storage.nbytes():
        buffer = (ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr())
        memory = torch.from_numpy(np.ctypeslib.as_array(buffer)).untyped_storage()
        view.set_(memory, value.storage_offset(), value.size(), value.stride())
    else:
        view = view.as_strided(value.size(), value.stride())
    return view


def on_gpu(value: Any, device: torch.device) -> Any:
    """Return a copy of a CPU tensor on the pretended GPU; others as they are."""
    if not isinstance(value, Tensor):
        return value
    found = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=device)
    on_cpu(found).copy_(value)
    return found


class Values(TorchDispatchMode):
    """Compute on the CPU what the pretended GPU does not."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = counts()
        torch.backends.cudnn.enabled = False  # it would look for a real device
        torch.backends.cuda.enable_cudnn_sdp(False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        wanted = kwargs.get('device')
        used = any(t.is_cuda for t in tensors)
        if not used and (wanted is None or torch.device(wanted).type != 'cuda'):
            return func(*args, **kwargs)
        if func.namespace in ('c10d', '_c10d_functional'):
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and torch._C._dispatch_has_kernel_for_dispatch_key(
            func.name(), 'CompositeImplicitAutograd'
        ):
            with self:  # its parts come here instead
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        return self.run(func, tensors, args, kwargs)

    def run(self, func, tensors: list[Tensor], args: tuple, kwargs: dict) -> Any:
        schema = func._schema
        name = schema.name.split('::')[1]
        written = [r.alias_info.is_write for r in schema.returns if r.alias_info is not None]
        if name in NO_VALUES or (written and not any(written)):  # the latter are views
            return func(*args, **kwargs)
        in_place = any(written) or name.endswith('_')
        if name in SIZE_FROM_VALUES or (name in INDEXING and masked(args)):
            self.wait()
            self.counts.launches += 1
            return self.only_on_cpu(func, in_place, tensors, args, kwargs)
        if name in LIBRARY:
            check_operands(name, tensors)
            self.counts.launches += 1
            return self.only_on_cpu(func, in_place, tensors, args, kwargs)
        found = func(*args, **kwargs)
        with warnings.catch_warnings():  # the CUDA implementation has warned already
            warnings.simplefilter('ignore')
            values = self.values(func, name, args, kwargs)
        if not in_place:
            for to, value in zip(tree_leaves(found), tree_leaves(values), strict=True):
                if not isinstance(to, Tensor) or not isinstance(value, Tensor):
                    continue
                if to.numel() and value.numel():  # not statistics that only one of both saves
                    assert to.shape == value.shape, f'{name}: {to.shape}, on a CPU {value.shape}'
                    on_cpu(to).copy_(value)
        return found

    def wait(self) -> None:
        self.counts.waits += 1
        if torch.cuda.get_sync_debug_mode():
            warnings.warn('called a synchronizing CUDA operation', stacklevel=5)

    def only_on_cpu(self, func, in_place: bool, tensors: list, args: tuple, kwargs: dict) -> Any:
        values = compute(func, *tree_map(on_cpu, (args, without_device(kwargs))))
        if in_place:
            return args[0]
        device = next(t.device for t in tensors if t.is_cuda)
        return tree_map(lambda value: on_gpu(value, device), values)

    def values(self, func, name: str, args: tuple, kwargs: dict) -> Any:
        args, kwargs = tree_map(on_cpu, (args, without_device(kwargs)))
        if name.startswith('_scaled_dot_product_'):
            return attention(func, name, args, kwargs)
        if name in ('_thnn_fused_gru_cell', '_thnn_fused_gru_cell_backward'):
            return gru_cell(*args) if name.endswith('cell') else gru_cell_backward(*args)
        if name in ('_softmax', '_log_softmax') and args[2]:  # from half precision to float32
            return func(args[0].float(), args[1], False)
        if name in ('_softmax_backward_data', '_log_softmax_backward_data'):
            return func(*args[:3], args[0].dtype).to(args[3])
        if name in sync_norms.OPERATORS:
            return sync_norms.OPERATORS[name](*args)
        if name == '_fused_dropout':
            mask = torch.rand(args[0].shape) < args[1]
            return args[0] * mask / args[1], mask.byte()
        return compute(func, args, kwargs)


def without_device(kwargs: dict) -> dict:
    """Return keyword arguments for the CPU: its device and generator, memory that is not pinned."""
    changes = dict(device=torch.device('cpu'), generator=None, pin_memory=None)
    return {k: value if value is None else changes.get(k, value) for k, value in kwargs.items()}


def masked(args: tuple) -> bool:
    indices = args[1] if len(args) > 1 else ()
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


def check_operands(name: str, tensors: list[Tensor]) -> None:
    """Check what the CUDA implementation would: one device and one data type."""
    devices = {t.device for t in tensors if t.dim()}
    if len(devices) > 1:
        raise RuntimeError(f'{name}: expected all tensors on one device, found {devices}')
    dtypes = {t.dtype for t in tensors if t.dim() and t.is_floating_point()}
    if len(dtypes) > 1:
        raise RuntimeError(f'{name}: expected tensors of one data type, found {dtypes}')


def compute(func, args: tuple, kwargs: dict) -> Any:
    """Call the CPU's implementation, in float32 if it has none in half precision."""
    try:
        return func(*args, **kwargs)
    except (RuntimeError, NotImplementedError):
        halves = [t for t in tree_leaves((args, kwargs)) if is_half(t)]
        if not halves:
            raise
        wide = {id(t): t.float() for t in halves}
        args, kwargs = tree_map(lambda t: wide.get(id(t), t), (args, kwargs))
        found = func(*args, **kwargs)
        for t in halves:  # those written to
            t.copy_(wide[id(t)])
        return found


def is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in HALVES


def attention(func, name: str, args: tuple, kwargs: dict) -> tuple:
    """Compute softmax(Q K^T s + bias) V, or its gradients, for any of PyTorch's kernels."""
    parameters = func._schema.arguments
    given = {p.name: p.default_value for p in parameters if p.has_default_value()}
    given |= dict(zip((p.name for p in parameters), args)) | kwargs
    q, k, v = (given[key].float() for key in ('query', 'key', 'value'))
    dtype, bias = given['query'].dtype, given.get('attn_bias')
    if given.get('dropout_p'):
        raise NotImplementedError(f'{name} with dropout on the pretended GPU')
    scale = given.get('scale') or q.shape[-1] ** -0.5
    logits = q @ k.mT * scale
    if bias is not None:
        logits = logits + bias.float()
    if given.get('is_causal'):
        logits = logits.masked_fill(
            logits.new_ones(logits.shape[-2:], dtype=torch.bool).triu(1), -math.inf
        )
    weights = logits.softmax(-1)
    outputs = len(func._schema.returns)
    if 'backward' not in name:
        return (weights @ v).to(dtype), *(None,) * (outputs - 1)
    gradient = next(given[key] for key in ('grad_out_', 'grad_out') if key in given).float()
    of_weights = gradient @ v.mT
    of_logits = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True))
    found = of_logits @ k * scale, of_logits.mT @ q * scale, weights.mT @ gradient
    of_bias = (None if bias is None else of_logits.to(bias.dtype),) * (outputs - 3)
    return *(value.to(dtype) for value in found), *of_bias


def gru_cell(x: Tensor, h: Tensor, state: Tensor, x_bias=None, h_bias=None) -> tuple:
    """Compute a GRU's state from the products with its input and its state, each (N, 3 C)."""
    dtype = x.dtype
    x, h, state = (t.float() for t in (x, h, state))
    if x_bias is not None:
        x, h = x + x_bias.float(), h + h_bias.float()
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), h.chunk(3, 1)
    r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    n = (xn + r * hn).tanh()
    saved = torch.cat([r, z, n, state, hn], 1)
    return (n + z * (state - n)).to(dtype), saved.to(dtype)


def gru_cell_backward(gradient: Tensor, saved: Tensor, has_bias: bool) -> tuple:
    """Compute the gradients of :func:`gru_cell`."""
    r, z, n, state, hn = saved.float().chunk(5, 1)
    gradient = gradient.float()
    of_z = gradient * (state - n) * z * (1 - z)
    of_n = gradient * (1 - z) * (1 - n * n)
    of_r = of_n * hn * r * (1 - r)
    of_x, of_h = torch.cat([of_r, of_z, of_n], 1), torch.cat([of_r, of_z, of_n * r], 1)
    biases = (of_x.sum(0), of_h.sum(0)) if has_bias else (None, None)
    found = (of_x, of_h, gradient * z, *biases)
    return tuple(None if t is None else t.to(saved.dtype) for t in found)
