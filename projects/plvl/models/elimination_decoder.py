"""EEVG's decoder (Chen et al., ECCV 2024): fusion layers that eliminate visual tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .relative_position import resize_position_embedding
from .token_elimination import TokenElimination


class KeptTokens(NamedTuple):
    """Hold the tokens that remain after the decoder.

    Attributes:
        reg: (B, C), the regression token.
        visual: (B, m, C), the visual tokens that were kept.
        cells: (B, m) int64, ascending: their flat cells in the grid.
        grid: Number of cells (h, w).
    """

    reg: Tensor
    visual: Tensor
    cells: Tensor
    grid: tuple[int, int]

    def to_map(self) -> Tensor:
        """Return the feature map (B, C, h, w) with zeros in place of eliminated tokens."""
        return scatter_to_map(self.visual, self.cells, self.grid)


def scatter_to_map(tokens: Tensor, cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Scatter tokens (B, m, C) to their cells (B, m): (B, C, h, w) with zeros elsewhere."""
    batch, _, channels = tokens.shape
    index = cells[..., None].expand(-1, -1, channels)
    full = tokens.new_zeros(batch, grid[0] * grid[1], channels).scatter(1, index, tokens)
    return full.transpose(1, 2).unflatten(2, grid)


def _with_reg(index: Tensor) -> Tensor:
    """Convert visual token indices (B, n) to those of a sequence headed by the regression token."""
    return F.pad(index + 1, (1, 0))


class EliminationLayer(nn.TransformerDecoderLayer):
    """Apply a post-norm decoder layer whose self-attention removes visual tokens.

    The self-attention of this layer still reads the removed tokens as keys and values, but nothing
    after it does. Selecting them only needs the regression token's row of the attention, so only
    that row is computed, and the queries of removed tokens never are.

    Args:
        channels: Number of channels ``C``.
        num_heads: Number of heads in both attentions.
        ffn_channels: Hidden channels of the FFN.
        dropout: Dropout.
        elimination: Selects the tokens to keep.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        ffn_channels: int,
        dropout: float,
        elimination: TokenElimination,
    ) -> None:
        super().__init__(channels, num_heads, ffn_channels, dropout, batch_first=True)
        self.elimination = elimination

    def forward(  # type: ignore[override]  # only the submodules come from PyTorch's layer
        self,
        x: Tensor,
        cells: Tensor,
        grid: tuple[int, int],
        positions: Tensor,
        text_key: Tensor,
        text: Tensor,
        text_padding: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Apply self-attention with elimination, cross-attention to language, and the FFN.

        Args:
            x: (B, 1 + n, C), the regression token and n visual tokens.
            cells: (B, n), flat grid cells of the visual tokens.
            grid: Number of cells (h, w).
            positions: (1 + h * w, C), positions of the regression token and of every cell.
            text_key: Language tokens with positions (B, L, C).
            text: Language tokens (B, L, C).
            text_padding: (B, L), True on padding, which is not attended to.

        Returns:
            ``x`` and ``cells`` of the tokens that are kept.
        """
        weights = self.self_attn.in_proj_weight.chunk(3)
        biases = self.self_attn.in_proj_bias.chunk(3)
        placed = x + F.embedding(_with_reg(cells), positions)
        key = F.linear(placed, weights[1], biases[1])
        value = F.linear(x, weights[2], biases[2])
        kept = self.elimination(self._reg_row(placed[:, :1], key), cells, grid)

        cells = cells.gather(1, kept)
        x = x.gather(1, _with_reg(kept)[..., None].expand(-1, -1, x.shape[2]))
        pos = F.embedding(_with_reg(cells), positions)
        query = F.linear(x + pos, weights[0], biases[0])
        query, key, value = (
            t.unflatten(2, (self.self_attn.num_heads, -1)).transpose(1, 2)
            for t in (query, key, value)
        )
        update = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.self_attn.dropout if self.training else 0.0
        )
        update = self.self_attn.out_proj(update.transpose(1, 2).flatten(2))
        x = self.norm1(x + self.dropout1(update))
        update = self.multihead_attn(
            x + pos, text_key, text, key_padding_mask=text_padding, need_weights=False
        )[0]
        x = self.norm2(x + self.dropout2(update))
        update = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm3(x + self.dropout3(update)), cells

    @torch.no_grad()
    def _reg_row(self, placed_reg: Tensor, key: Tensor) -> Tensor:
        """Compute the regression token's attention logits to visual tokens (B, n), mean over heads.

        The mean over heads of the query-key products is the product over all channels, divided by
        the number of heads.
        """
        channels, num_heads = key.shape[2], self.self_attn.num_heads
        query = F.linear(
            placed_reg,
            self.self_attn.in_proj_weight[:channels],
            self.self_attn.in_proj_bias[:channels],
        )
        # An elementwise product stays in float32 under autocast.
        logits = (query.float() * key[:, 1:].float()).sum(2)
        return logits / (num_heads * (channels // num_heads) ** 0.5)


@MODELS.register_module()
class TokenEliminationDecoder(BaseModule):
    """Project both modalities and fuse them in layers that eliminate visual tokens.

    A learned regression token precedes the visual tokens. Learned positions are added to the
    queries and keys of every layer.

    Args:
        visual_channels: Channels of the visual tokens.
        text_channels: Channels of the language tokens.
        channels: Channels after the projections.
        num_layers: Number of layers.
        num_heads: Number of heads in both attentions.
        ffn_channels: Hidden channels of the FFN.
        dropout: Dropout in the layers.
        pos_embed_grid: Side of the grid of visual positions, which are interpolated for other
            grids: 28 for 448 pixels.
        max_tokens: Maximum number of language tokens.
        threshold: See :class:`TokenElimination`.
        keep_ratio: See :class:`TokenElimination`.
    """

    semantic_arguments = ('num_heads',)

    def __init__(
        self,
        visual_channels: int = 768,
        text_channels: int = 768,
        channels: int = 768,
        num_layers: int = 3,
        num_heads: int = 8,
        ffn_channels: int = 1024,
        dropout: float = 0.1,
        pos_embed_grid: int = 28,
        max_tokens: int = 40,
        threshold: float = 0.015,
        keep_ratio: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_channels = channels
        self.visual_proj = nn.Linear(visual_channels, channels)
        self.text_proj = nn.Linear(text_channels, channels)
        self.reg_token = nn.Parameter(torch.randn(1, 1, channels))
        self.visual_pos = nn.Parameter(torch.randn(1, 1 + pos_embed_grid**2, channels))
        self.text_pos = nn.Parameter(torch.randn(1, max_tokens, channels))
        self.layers = nn.ModuleList(
            EliminationLayer(
                channels, num_heads, ffn_channels, dropout, TokenElimination(threshold, keep_ratio)
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, visual: Tensor, text: Tensor, text_mask: Tensor) -> KeptTokens:
        """Fuse visual and language tokens.

        Args:
            visual: Visual tokens (B, h, w, C_visual).
            text: Language tokens (B, L, C_text).
            text_mask: (B, L), 0 on padding, which is not attended to.
        """
        batch, grid = visual.shape[0], (visual.shape[1], visual.shape[2])
        x = self.visual_proj(visual.flatten(1, 2))
        x = torch.cat((self.reg_token.expand(batch, -1, -1).to(x.dtype), x), dim=1)
        places = resize_position_embedding(self.visual_pos, grid).flatten(1, 2)
        positions = torch.cat((self.visual_pos[:, :1], places), dim=1)[0]
        cells = torch.arange(grid[0] * grid[1], device=x.device).expand(batch, -1)
        text = self.text_proj(text)
        text_key = text + self.text_pos[:, : text.shape[1]]
        for layer in self.layers:
            x, cells = layer(x, cells, grid, positions, text_key, text, text_mask == 0)
        x = self.norm(x)
        return KeptTokens(x[:, 0], x[:, 1:], cells, grid)

    def init_weights(self) -> None:
        """Initialize matrices Xavier-uniformly, as DETR."""
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        super().init_weights()
