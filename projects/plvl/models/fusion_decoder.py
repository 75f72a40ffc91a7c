"""The last three language-guided layers (paper, Figure 2: blocks 13 to 15)."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class LanguageFusionDecoder(BaseModule):
    """Project both modalities and fuse them in post-norm transformer decoder layers.

    The paper draws them as three more global blocks (Eq. 3). The released code, followed here,
    implements them as DETR-style decoder layers: self-attention, cross-attention to the sentence
    and FFN, without positions.

    Args:
        visual_channels: Channels of the visual tokens.
        text_channels: Channels of the language tokens.
        channels: Channels after the projections.
        num_layers: Number of layers.
        num_heads: Number of heads in both attentions.
        ffn_channels: Hidden channels of the FFN.
        dropout: Dropout in the layers.
    """

    semantic_arguments = ('num_heads',)

    def __init__(
        self,
        visual_channels: int = 768,
        text_channels: int = 768,
        channels: int = 512,
        num_layers: int = 3,
        num_heads: int = 8,
        ffn_channels: int = 1024,
        dropout: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_channels = channels
        self.visual_proj = nn.Linear(visual_channels, channels)
        self.text_proj = nn.Linear(text_channels, channels)
        layer = nn.TransformerDecoderLayer(
            channels, num_heads, ffn_channels, dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, num_layers, norm=nn.LayerNorm(channels))

    def forward(self, visual: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Fuse visual and language tokens.

        Args:
            visual: Visual tokens (B, h, w, C_visual).
            text: Language tokens (B, L, C_text).
            text_mask: (B, L), 0 on padding, which is not attended to.

        Returns:
            Fused features (B, channels, h, w).
        """
        tokens = self.visual_proj(visual.flatten(1, 2))
        tokens = self.decoder(tokens, self.text_proj(text), memory_key_padding_mask=text_mask == 0)
        return tokens.transpose(1, 2).unflatten(2, visual.shape[1:3])

    def init_weights(self) -> None:
        """Initialize matrices Xavier-uniformly, as DETR."""
        for parameter in self.decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        super().init_weights()
