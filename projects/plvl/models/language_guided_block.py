"""The blocks of the language-guided visual backbone (paper, section 3.2, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .relative_position import (
    attention,
    folded_attention,
    relative_position_table,
)

__all__ = [
    'LanguageAdapter',
    'LanguageCrossAttention',
    'LanguageGuidedBlock',
    'RelativePositionAttention',
]

LAYER_NORM_EPS = 1e-6


def recomputes(x: Tensor) -> bool:
    """Return whether a GPU trains on ``x`` in eager mode; compilers recompute as they see fit."""
    return x.device.type != 'cpu' and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def recomputed(function: Callable[..., Tensor], x: Tensor, *others: Any) -> Tensor:
    """Call a function whose intermediate results cost more memory than time on a GPU.

    In training they are computed anew in the backward pass: the bias of the attention, which is by
    far the largest, with the attention (2 % of the arithmetic of a step), and the output of GELU.
    Unlike ``with_cp``, this repeats no product with weights.
    """
    if not recomputes(x):
        return function(x, *others)
    return cast(
        Tensor, checkpoint(function, x, *others, use_reentrant=False, preserve_rng_state=False)
    )


class RelativePositionAttention(nn.Module):
    """Apply multi-head self-attention over a grid of tokens (Eq. 2, with ViTDet's positions).

    Args:
        channels: Number of channels ``C``.
        num_heads: Number of heads.
        rel_pos_grid: Side of the grid for which the relative positions are defined. They are
            interpolated for other grids.
    """

    def __init__(self, channels: int, num_heads: int, rel_pos_grid: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        length = 2 * rel_pos_grid - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(length, channels // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(length, channels // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the grid: (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, H*W, C / heads)
        rel_h = relative_position_table(self.rel_pos_h, height).to(q.dtype)
        rel_w = relative_position_table(self.rel_pos_w, width).to(q.dtype)
        if q.dtype == torch.bfloat16 and q.device.type == 'cpu' and not torch.is_grad_enabled():
            x = folded_attention(q, k, v, rel_h, rel_w)
        else:
            # On a GPU, PyTorch would copy a bias with other rows into one with such rows.
            alignment = 1 if q.device.type == 'cpu' or torch.compiler.is_compiling() else 8
            x = recomputed(attention, q, k, v, rel_h, rel_w, alignment)
        return self.proj(x.transpose(1, 2).flatten(2).unflatten(1, (height, width)))


class LanguageAdapter(nn.Module):
    """Adapt text encoder features to one block with LayerNorm and a residual bottleneck.

    The paper does not mention it; the released code has one for each block that reads language.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.down = nn.Linear(channels, hidden)
        self.up = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map language tokens (B, L, C) to (B, L, C)."""
        x = self.norm(x)
        return x + self.up(F.relu(self.down(x)))


class LanguageCrossAttention(nn.MultiheadAttention):
    """Apply cross-attention from visual to language tokens (Eq. 3), batch first.

    The weights and their names are those of :class:`torch.nn.MultiheadAttention`. That class moves
    the batch to the second dimension first, and projecting tokens in that layout in bfloat16 on a
    CPU copies the weights for every token.
    """

    def forward(  # type: ignore[override]  # only the weights come from PyTorch's class
        self, query: Tensor, words: Tensor, padding: Tensor | None
    ) -> Tensor:
        """Attend from visual tokens to words.

        Args:
            query: (B, N, C).
            words: (B, L, C_text).
            padding: (B, L), True for words that must not be attended to; None attends to all.

        Returns:
            (B, N, C).
        """
        if self.in_proj_weight is None:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        else:
            weights = self.in_proj_weight.chunk(3)
        q, k, v = (
            F.linear(tokens, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for tokens, weight, bias in zip(
                (query, words, words), weights, self.in_proj_bias.chunk(3), strict=True
            )
        )
        x = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if padding is None else ~padding[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return F.linear(x.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)


class LanguageGuidedBlock(nn.Module):
    """Implement a local block (Eq. 1), or a global block (Eq. 3) with or without language.

    Args:
        channels: Number of channels ``C``.
        num_heads: Number of self-attention heads.
        mlp_ratio: Ratio of hidden FFN channels to ``C``.
        drop_path: Probability of dropping a residual branch.
        window_size: Side of the windows of a local block in tokens; 0 for a global block.
        rel_pos_grid: See :class:`RelativePositionAttention`.
        text_channels: Channels of the language tokens; None for a block without language.
        cross_heads: Number of cross-attention heads.
        cross_dropout: Dropout of the cross-attention weights.
        adapter_channels: Bottleneck channels of the language adapter.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float,
        window_size: int,
        rel_pos_grid: int,
        text_channels: int | None,
        cross_heads: int,
        cross_dropout: float,
        adapter_channels: int,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.attn = RelativePositionAttention(channels, num_heads, rel_pos_grid)
        if text_channels is not None:
            self.adapter = LanguageAdapter(text_channels, adapter_channels)
            self.cross_attn = LanguageCrossAttention(
                channels,
                cross_heads,
                dropout=cross_dropout,
                kdim=text_channels,
                vdim=text_channels,
                batch_first=True,
            )
        self.norm2 = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(channels, int(channels * mlp_ratio)),
            nn.GELU(),
            nn.Linear(int(channels * mlp_ratio), channels),
        )
        self.drop_path = DropPath(drop_path)

    @property
    def sees_language(self) -> bool:
        """Return whether the block has cross-attention to the sentence."""
        return hasattr(self, 'cross_attn')

    def forward(self, x: Tensor, text: Tensor | None, text_padding: Tensor | None) -> Tensor:
        """Apply self-attention, language cross-attention if present, and the FFN.

        Args:
            x: Visual tokens (B, H, W, C).
            text: Language tokens (B, L, C_text); unused by a block without language.
            text_padding: (B, L), True on padding that must not be attended to; None attends to all.

        Returns:
            (B, H, W, C).
        """
        x = x + self.drop_path(self._self_attention(x))
        if self.sees_language:
            words = self.adapter(text)
            update = self.cross_attn(x.flatten(1, 2), words, text_padding)
            x = x + self.drop_path(update.view_as(x))
        hidden = self.mlp[0](self.norm2(x))
        return x + self.drop_path(recomputed(self.mlp[1:], hidden))

    def _self_attention(self, x: Tensor) -> Tensor:
        side = self.window_size
        if not side:
            return self.attn(self.norm1(x))
        batch, height, width, channels = x.shape
        # As released, padding is added before the norm, which turns it into the norm's bias.
        rows, columns = (height + side - 1) // side, (width + side - 1) // side
        x = F.pad(x, (0, 0, 0, columns * side - width, 0, rows * side - height))
        x = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        x = self.attn(self.norm1(x.reshape(-1, side, side, channels)))
        x = x.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        return x.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
