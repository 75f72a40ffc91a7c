"""Decomposed relative positions of ViTDet (Li et al., ECCV 2022)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _make_matrix(mode: str, old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # the columns are what PyTorch makes of unit vectors
    if mode == 'linear':
        unit = torch.eye(old, dtype=dtype, device=device)[None]
        return F.interpolate(unit, size=new, mode='linear')[0].T
    unit = torch.eye(old, dtype=dtype, device=device)[None, :, :, None]
    return F.interpolate(unit, size=(new, 1), mode='bicubic', align_corners=False)[0, ..., 0].T


def symbolic_matrix(mode: str, old: int, new: int, like: Tensor) -> Tensor:
    """Compute the matrix (new, old) that interpolates a table, for any length of the result.

    These are the formulas of ``F.interpolate`` without aligned corners, written as operations on
    tensors, so that an exported graph computes the matrix for the size that it is given.

    Args:
        mode: 'linear' or 'bicubic', the cubic convolution with a = -0.75.
        old: Length of the table.
        new: Length of the result, a symbol in an export.
        like: Tensor with the type and the device of the result.
    """
    index = torch.arange(old, device=like.device)
    place = (torch.arange(new, device=like.device).to(like) + 0.5) * (old / new) - 0.5
    if mode == 'linear':
        distance = (place.clamp(0, old - 1)[:, None] - index).abs()
        return (1 - distance).clamp(min=0)
    first = place.floor()
    part = place - first
    taps = []
    for offset in (-1, 0, 1, 2):
        x = (part - offset).abs()
        near = (1.25 * x - 2.25) * x * x + 1
        far = -0.75 * (((x - 5) * x + 8) * x - 4)
        cell = (first.long() + offset).clamp(0, old - 1)
        hit = (cell[:, None] == index).to(like)
        taps.append(torch.where(x <= 1, near, far)[:, None] * hit)
    return taps[0] + taps[1] + taps[2] + taps[3]


@lru_cache(maxsize=64)
def _cached_matrix(*key: Any) -> Tensor:
    # Training may follow inference, whose tensors it cannot use.
    with torch.inference_mode(False), torch.no_grad():
        return _make_matrix(*key)


def stretch(table: Tensor, size: int, mode: str) -> Tensor:
    """Interpolate the first axis of a table like ``F.interpolate``, by a fixed matrix.

    The gradients of ``F.interpolate`` have no deterministic CUDA kernel; those of a product do.

    Args:
        table: (L, C).
        size: New length.
        mode: 'linear' or 'bicubic', without aligned corners.

    Returns:
        (size, C). Autocast does not apply.
    """
    dtype = torch.promote_types(table.dtype, torch.float32)
    # A graph under construction makes its own, which is then a constant of the graph.
    if isinstance(size, torch.SymInt):
        matrix = symbolic_matrix(mode, table.shape[0], size, table.to(dtype))
    else:
        make = _make_matrix if torch.compiler.is_compiling() else _cached_matrix
        matrix = make(mode, table.shape[0], size, dtype, table.device)
    with torch.autocast(table.device.type, enabled=False):
        return (matrix @ table.to(dtype)).to(table.dtype)


def relative_position_table(rel_pos: Tensor, size: int) -> Tensor:
    """Look up the embedding of every (query, key) offset along one axis.

    Args:
        rel_pos: (L, C) embeddings of the offsets from -(L-1)/2 to (L-1)/2. They are interpolated
            linearly to 2 * size - 1 embeddings if L differs.
        size: Number of tokens along the axis.

    Returns:
        (size, size, C): the embedding of offset ``query - key``.
    """
    length = 2 * size - 1
    # A graph for any size always stretches, which keeps a table of the right length as it is.
    if isinstance(size, torch.SymInt) or rel_pos.shape[0] != length:
        rel_pos = stretch(rel_pos, length, 'linear')
    index = torch.arange(size, device=rel_pos.device)
    return rel_pos[index[:, None] - index[None, :] + size - 1]


def _products_with_positions(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> tuple[Tensor, Tensor]:
    """Compute what each query (B, heads, H*W, C) adds to the logits of each row and each column.

    Returns:
        (B, heads, H, W, H) and (B, heads, H, W, W), contiguous.
    """
    q = q.unflatten(2, (rel_h.shape[0], rel_w.shape[0]))
    bias_h = torch.einsum('bnhwc,hkc->bnhwk', q, rel_h).contiguous()
    bias_w = torch.einsum('bnhwc,wkc->bnhwk', q, rel_w).contiguous()
    return bias_h, bias_w


class _AlignedSums(torch.autograd.Function):
    """Add (..., H) and (..., W) for all pairs: (..., H*W), with rows ``alignment`` entries apart.

    Or a multiple of it.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, alignment: int) -> Tensor:
        ctx.sizes = height, width = rows.shape[-1], columns.shape[-1]
        length = height * width
        aligned = rows.new_empty(*rows.shape[:-1], length + -length % alignment)[..., :length]
        torch.add(rows[..., None], columns[..., None, :], out=aligned.unflatten(-1, ctx.sizes))
        return aligned

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad = grad.unflatten(-1, ctx.sizes)
        return grad.sum(-1), grad.sum(-2), None


def relative_position_bias(q: Tensor, rel_h: Tensor, rel_w: Tensor, alignment: int = 1) -> Tensor:
    """Compute the bias that decomposed relative positions add to the attention logits.

    Args:
        q: (B, heads, H*W, C) queries, not scaled.
        rel_h: (H, H, C) from :func:`relative_position_table`.
        rel_w: (W, W, C).
        alignment: In memory, rows begin at multiples of this many entries.

    Returns:
        (B, heads, H*W, H*W).
    """
    # The terms must be contiguous; otherwise their large sum is not, and flattening copies it.
    bias_h, bias_w = _products_with_positions(q, rel_h, rel_w)
    if alignment > 1:
        return _AlignedSums.apply(bias_h, bias_w, alignment).flatten(2, 3)
    bias = bias_h[..., :, None] + bias_w[..., None, :]
    return bias.flatten(4, 5).flatten(2, 3)


def attention(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, alignment: int = 1
) -> Tensor:
    """Compute attention with decomposed relative positions.

    Args:
        q: (B, heads, H*W, C) queries, not scaled.
        k: (B, heads, H*W, C).
        v: (B, heads, H*W, C).
        rel_h: (H, H, C) from :func:`relative_position_table`.
        rel_w: (W, W, C).
        alignment: See :func:`relative_position_bias`.

    Returns:
        (B, heads, H*W, C).
    """
    bias = relative_position_bias(q, rel_h, rel_w, alignment)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def folded_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Compute attention with decomposed relative positions by three matrix products and a softmax.

    The position terms are appended to the queries, and one-hot rows and columns to the keys, so
    that one product computes the logits with their bias. In bfloat16 on a CPU this is more than
    twice as fast as PyTorch's fused attention, which adds the bias in float32; in float32 it is
    slower.

    Args:
        q: (B, heads, H*W, C) queries, not scaled.
        k: (B, heads, H*W, C).
        v: (B, heads, H*W, C).
        rel_h: (H, H, C) from :func:`relative_position_table`.
        rel_w: (W, W, C).

    Returns:
        (B, heads, H*W, C).
    """
    height, width = rel_h.shape[0], rel_w.shape[0]
    terms = [term.flatten(2, 3) for term in _products_with_positions(q, rel_h, rel_w)]
    rows = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
    columns = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    cells = torch.cat([rows, columns], dim=1).expand(*k.shape[:2], -1, -1)
    queries = torch.cat([q * q.shape[-1] ** -0.5, *terms], dim=-1)
    logits = queries @ torch.cat([k, cells], dim=-1).transpose(-2, -1)
    return logits.softmax(-1) @ v


def resize_position_embedding(pos_embed: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate absolute position embeddings (1, 1 + N, C) to a grid, bicubically.

    The first entry belongs to a class token that ViTDet does not use.

    Returns:
        (1, H, W, C).
    """
    grid = pos_embed[:, 1:]
    side = math.isqrt(int(grid.shape[1]))
    grid = grid.unflatten(1, (side, side))
    for axis, new in enumerate(size, 1):
        if isinstance(new, torch.SymInt) or new != side:
            lines = grid.transpose(0, axis)
            lines = stretch(lines.flatten(1), new, 'bicubic').unflatten(1, lines.shape[1:])
            grid = lines.transpose(0, axis)
    return grid
