"""The language-guided visual backbone (paper, section 3.2, Figure 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.utils.checkpoint
from mmcv.cnn import build_norm_layer
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.common.errors import InputError

from .language_guided_block import LAYER_NORM_EPS, LanguageCrossAttention, LanguageGuidedBlock
from .relative_position import resize_position_embedding
from .vit_weights import load_vit

__all__ = ['LanguageGuidedViT']


class _BackboneStem(BaseModule):
    """Project the last feature map of a backbone, which has one cell per patch."""

    def __init__(self, stem: Mapping[str, Any], channels: int, patch_size: int) -> None:
        super().__init__()
        self.stem = MODELS.build(dict(stem))
        side, training = 4 * patch_size, self.stem.training
        self.stem.eval()  # the statistics of its norms are not to see what follows
        with torch.no_grad():
            before, *size = self._last_map(torch.zeros(1, 3, side, side)).shape[1:]
        self.stem.train(training)
        if size != [4, 4]:
            raise InputError(
                f'backbone.stem: {size[0]} x {size[1]} cells of {side} x {side} pixels, but a '
                f'patch has {patch_size} pixels'
            )
        self.projection = nn.Conv2d(before, channels, 1)

    def _last_map(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        return maps[-1] if isinstance(maps, (tuple, list)) else maps

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(self._last_map(images))


def _patch_embedding(
    channels: int,
    patch_size: int,
    stem: Sequence[tuple[int, int]] | Mapping[str, Any],
    norm_cfg: dict,
) -> nn.Module:
    """Build one linear projection per patch, or a convolutional stem that ends in one."""
    if isinstance(stem, Mapping):
        return _BackboneStem(stem, channels, patch_size)
    if not stem:
        return nn.Conv2d(3, channels, patch_size, stride=patch_size)
    stride = math.prod(step for _, step in stem)
    if stride != patch_size:
        raise InputError(
            f'backbone.stem: its strides make {stride} pixels, but a patch has {patch_size}'
        )
    layers: list[nn.Module] = []
    before = 3
    for after, step in stem:
        kernel = max(3, step)
        layers += [
            nn.Conv2d(before, after, kernel, step, padding=int(kernel == 3), bias=False),
            build_norm_layer(norm_cfg, after)[1],
            nn.ReLU(inplace=True),
        ]
        before = after
    return nn.Sequential(*layers, nn.Conv2d(before, channels, 1))


@MODELS.register_module()
class LanguageGuidedViT(BaseModule):
    """Implement a ViTDet-style ViT whose global blocks can read a sentence (section 3.2).

    The defaults are those of the released ViT-B: the 0-based blocks 2, 5, 8 and 11 are global and
    read language; the others attend within 14x14 windows, the four parts of Eq. 1 at 448 pixels.

    Args:
        patch_size: Side of a patch in pixels, ``P``.
        channels: Number of channels ``D``.
        depth: Number of blocks.
        num_heads: Number of self-attention heads.
        mlp_ratio: Ratio of hidden FFN channels to ``D``.
        window_size: Side of a local window in tokens.
        global_indexes: 0-based indexes of the blocks that attend to the whole grid.
        language_indexes: Indexes of the global blocks with language cross-attention (Table 4).
        text_channels: Channels of the language tokens.
        cross_heads: Number of cross-attention heads.
        cross_dropout: Dropout of the cross-attention weights.
        adapter_channels: Bottleneck channels of the language adapters.
        drop_path_rate: Drop path rate of the last block; it grows linearly from 0 over the blocks.
        pos_embed_grid: Side of the grid of absolute positions; 14 for weights trained on ImageNet
            at 224 pixels, such as ViTDet's.
        rel_pos_grid: Side of the grid of relative positions in the global blocks; 64 for ViTDet.
        stem: (channels, stride) of convolutions that replace the single linear patch projection of
            the paper (Xiao et al., NeurIPS 2021). With them, models that start from random weights
            learn shapes from far fewer samples. Kernels are 3x3, or as large as the stride, and a
            linear projection ends the stem. Empty for the projection of the paper. Or the config
            of a backbone with its own weights, whose last feature map is projected.
        stem_norm_cfg: Normalization after each convolution.
        mask_text_padding: Exclude padding tokens from the cross-attention. The released model
            attends to them.
        with_cp: Recompute each block in the backward pass to save memory.
        final_norm: Normalize the tokens behind the last block, as ViTs that are not trained for
            detection do.
        pretrained: A checkpoint of this class, or the ViT of another maker: a checkpoint of timm or
            mmpretrain, or a folder, a hub id or ``package:NAME/PATH`` of timm or of transformers'
            ViT, DINOv2 or SigLIP (:mod:`.vit_weights`). None or '' starts from random weights and
            logs that.

    Raises:
        ValueError: If an index is out of range, or a language block is not global.
    """

    semantic_arguments = ('cross_heads',)

    def __init__(
        self,
        patch_size: int = 16,
        channels: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        window_size: int = 14,
        global_indexes: Sequence[int] = (2, 5, 8, 11),
        language_indexes: Sequence[int] = (2, 5, 8, 11),
        text_channels: int = 768,
        cross_heads: int = 8,
        cross_dropout: float = 0.1,
        adapter_channels: int = 64,
        drop_path_rate: float = 0.1,
        pos_embed_grid: int = 14,
        rel_pos_grid: int = 64,
        stem: Sequence[tuple[int, int]] | Mapping[str, Any] = (),
        stem_norm_cfg: dict = dict(type='BN'),  # noqa: B006
        mask_text_padding: bool = False,
        with_cp: bool = False,
        final_norm: bool = False,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not pretrained and init_cfg is None:
            print_log(
                'the visual backbone starts from random weights: `pretrained` is not set', 'current'
            )
        super().__init__(init_cfg)
        for name, indexes in (
            ('global_indexes', global_indexes),
            ('language_indexes', language_indexes),
        ):
            wrong = [i for i in indexes if not 0 <= i < depth]
            if wrong:
                raise InputError(f'backbone.{name}: {wrong[0]}, but depth is {depth}')
        local = sorted(set(language_indexes) - set(global_indexes))
        if local:
            raise InputError(
                f'backbone.language_indexes: block {local[0]} is not in global_indexes; '
                'language enters global blocks only (section 3.2)'
            )
        self.optional_in_pretrained: dict[str, str] = {
            r'blocks\.\d+\.(cross_attn|adapter)\.': 'what reads language, which other ViTs lack',
            r'norm\.': 'the norm behind the last block, which detectors lack',
            # ViTDet's global blocks end each quarter; in Table 4 some of them are local.
            **{
                rf'blocks\.{i}\.attn\.rel_pos_[hw]$': 'positions of blocks that are local here'
                for i in range(max(depth // 4, 1) - 1, depth, max(depth // 4, 1))
                if i not in global_indexes
            },
        }
        self.patch_size = patch_size
        self.out_channels = channels
        self.num_heads = num_heads
        self.mask_text_padding = mask_text_padding
        self.with_cp = with_cp
        self.pretrained = pretrained
        self.patch_embed = _patch_embedding(channels, patch_size, stem, stem_norm_cfg)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + pos_embed_grid**2, channels))
        self.blocks = nn.ModuleList(
            LanguageGuidedBlock(
                channels=channels,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                drop_path=drop_path_rate * i / max(depth - 1, 1),
                window_size=0 if i in global_indexes else window_size,
                rel_pos_grid=rel_pos_grid if i in global_indexes else window_size,
                text_channels=text_channels if i in language_indexes else None,
                cross_heads=cross_heads,
                cross_dropout=cross_dropout,
                adapter_channels=adapter_channels,
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS) if final_norm else nn.Identity()

    @property
    def first_language_block(self) -> int:
        """Return the index of the first block that reads the sentence.

        Earlier blocks see only the image.
        """
        seeing = (i for i, block in enumerate(self.blocks) if block.sees_language)
        return next(seeing, len(self.blocks))

    def forward(
        self,
        images: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        repeats: Tensor | None = None,
    ) -> Tensor:
        """Compute visual tokens, guided by language if it is passed.

        Args:
            images: (B, 3, H, W), normalized; H and W are multiples of the patch size.
            text: Language tokens (B, L, C_text).
            text_mask: (B, L), 0 on padding.
            repeats: (I,), how many of the B sentences refer to each of I images. ``images`` is
                then (I, 3, H, W), and the blocks before language run once per image. None means
                one each.

        Returns:
            Visual tokens (B, H / P, W / P, D).
        """
        padding = text_mask == 0 if self.mask_text_padding and text_mask is not None else None
        x = self.embed(images)
        first = 0
        if repeats is not None:
            first = self.first_language_block
            x = self.run_blocks(x, 0, first, None, None).repeat_interleave(repeats, dim=0)
        return self.norm(self.run_blocks(x, first, len(self.blocks), text, padding))

    def embed(self, images: Tensor) -> Tensor:
        """Embed patches and add absolute positions: (B, 3, H, W) to (B, H / P, W / P, D)."""
        x = self.patch_embed(images).permute(0, 2, 3, 1)
        return x + resize_position_embedding(self.pos_embed, x.shape[1:3])

    def run_blocks(
        self,
        x: Tensor,
        start: int,
        stop: int,
        text: Tensor | None,
        text_padding: Tensor | None,
    ) -> Tensor:
        """Run blocks ``start`` to ``stop - 1``."""
        for block in self.blocks[start:stop]:
            if self.with_cp and self.training:
                x = torch.utils.checkpoint.checkpoint(
                    block, x, text, text_padding, use_reentrant=False
                )
            else:
                x = block(x, text, text_padding)
        return x

    def init_weights(self) -> None:
        """Initialize with truncated normals (0.02) as ViTDet, cross-attention as in section 4.1.

        The cross-attention is initialized uniformly. ``pretrained`` replaces what it has.

        Raises:
            FileNotFoundError: There is no such file or folder.
            InputError: The weights do not fit.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, LanguageCrossAttention):
                module._reset_parameters()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        super().init_weights()
        if self.pretrained:
            load_vit(self, self.pretrained)
