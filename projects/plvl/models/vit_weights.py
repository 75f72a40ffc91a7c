"""Weights of other makers' ViTs, brought into the form of :class:`LanguageGuidedViT`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from projects.common.errors import InputError
from projects.common.weights.convert import KeyMap
from projects.common.weights.loading import load_weights
from projects.common.weights.matching import Match
from projects.common.weights.sources import read_source

from .relative_position import resize_position_embedding, stretch

if TYPE_CHECKING:
    from .language_guided_vit import LanguageGuidedViT

__all__ = ['load_vit', 'resize_patches', 'translate_vit']

# What the names of a maker begin with, as the name of the first block's tensor tells; their parts.
_LAYOUTS = {
    # timm, also the original DINO, DINOv2 and MAE
    r'((?:.+\.)?)blocks\.0\.mlp\.fc1\.weight': {
        'patch_embed.proj.': 'patch_embed.',
        'blocks.{}.ls1.gamma': 'blocks.{}.attn.proj.scale',
        'blocks.{}.ls2.gamma': 'blocks.{}.mlp.2.scale',
        'blocks.{}.mlp.fc1.': 'blocks.{}.mlp.0.',
        'blocks.{}.mlp.fc2.': 'blocks.{}.mlp.2.',
    },
    # mmpretrain
    r'((?:.+\.)?)layers\.0\.ffn\.layers\.0\.0\.weight': {
        'patch_embed.projection.': 'patch_embed.',
        'layers.{}.attn.gamma1.weight': 'blocks.{}.attn.proj.scale',
        'layers.{}.ffn.gamma2.weight': 'blocks.{}.mlp.2.scale',
        'layers.{}.ffn.layers.0.0.': 'blocks.{}.mlp.0.',
        'layers.{}.ffn.layers.1.': 'blocks.{}.mlp.2.',
        'layers.{}.ln1.': 'blocks.{}.norm1.',
        'layers.{}.ln2.': 'blocks.{}.norm2.',
        'layers.': 'blocks.',
        'ln1.': 'norm.',
    },
    # transformers: ViT
    r'((?:.+\.)?)encoder\.layer\.0\.layernorm_before\.weight': {
        'encoder.layer.{}.layernorm_before.': 'blocks.{}.norm1.',
        'encoder.layer.{}.layernorm_after.': 'blocks.{}.norm2.',
        'encoder.layer.{}.intermediate.dense.': 'blocks.{}.mlp.0.',
        'encoder.layer.{}.output.dense.': 'blocks.{}.mlp.2.',
    },
    # transformers: DINOv2, with or without registers
    r'((?:.+\.)?)encoder\.layer\.0\.layer_scale1\.lambda1': {
        'encoder.layer.{}.layer_scale1.lambda1': 'blocks.{}.attn.proj.scale',
        'encoder.layer.{}.layer_scale2.lambda1': 'blocks.{}.mlp.2.scale',
        'encoder.layer.{}.mlp.fc1.': 'blocks.{}.mlp.0.',
        'encoder.layer.{}.mlp.fc2.': 'blocks.{}.mlp.2.',
    },
    # transformers: SigLIP, alone or with its text tower
    r'((?:.+\.)?vision_model\.)encoder\.layers\.0\.layer_norm1\.weight': {
        'embeddings.patch_embedding.': 'patch_embed.',
        'embeddings.position_embedding.weight': 'pos_embed',
        'encoder.layers.{}.layer_norm1.': 'blocks.{}.norm1.',
        'encoder.layers.{}.layer_norm2.': 'blocks.{}.norm2.',
        'encoder.layers.{}.self_attn.q_proj.': 'blocks.{}.attn.q.',
        'encoder.layers.{}.self_attn.k_proj.': 'blocks.{}.attn.k.',
        'encoder.layers.{}.self_attn.v_proj.': 'blocks.{}.attn.v.',
        'encoder.layers.{}.self_attn.out_proj.': 'blocks.{}.attn.proj.',
        'encoder.layers.{}.mlp.fc1.': 'blocks.{}.mlp.0.',
        'encoder.layers.{}.mlp.fc2.': 'blocks.{}.mlp.2.',
        'post_layernorm.': 'norm.',
    },
}
_BOTH = {  # transformers' ViT and DINOv2
    'embeddings.position_embeddings': 'pos_embed',
    'embeddings.patch_embeddings.projection.': 'patch_embed.',
    'encoder.layer.{}.attention.attention.query.': 'blocks.{}.attn.q.',
    'encoder.layer.{}.attention.attention.key.': 'blocks.{}.attn.k.',
    'encoder.layer.{}.attention.attention.value.': 'blocks.{}.attn.v.',
    'encoder.layer.{}.attention.output.dense.': 'blocks.{}.attn.proj.',
    'encoder.layer.': 'blocks.',
    'layernorm.': 'norm.',
    'embeddings.': '',
}
_FIRST_NORMS = ('pre_layrnorm.', 'norm_pre.', 'pre_norm.')  # CLIP
_ACTIVATIONS = ('gelu', 'gelu_pytorch_tanh')


def load_vit(backbone: LanguageGuidedViT, source: str) -> Match:
    """Load a checkpoint of :class:`LanguageGuidedViT`, or weights of another maker's ViT.

    One line says what was loaded and what keeps its initialization.

    Args:
        backbone: The :class:`LanguageGuidedViT`.
        source: See :func:`.read_source`.

    Raises:
        FileNotFoundError: There is no such file or folder.
        InputError: The weights cannot be found, or do not fit.
    """
    weights, config = read_source('backbone.pretrained', source)
    found = _layout(weights)
    if found is None:
        return load_weights(backbone, weights, source, 'pretrained')
    _check_config(backbone, config, source)
    weights, changes = translate_vit(weights, backbone)
    backbone.optional_in_pretrained = {
        **backbone.optional_in_pretrained,
        r'blocks\.\d+\.attn\.rel_pos_[hw]$': 'relative positions, which start at 0',
    }
    said = f'{source} ({", ".join(changes)})' if changes else source
    return load_weights(backbone, weights, said, 'pretrained')


def translate_vit(
    weights: Mapping[str, Tensor], backbone: LanguageGuidedViT
) -> tuple[dict[str, Tensor], list[str]]:
    """Translate the weights of a ViT of timm, mmpretrain or transformers.

    Queries, keys and values become one matrix. LayerScale is folded into the projections that it
    follows. Positions are resized bicubically to ``pos_embed_grid``, and patches by
    :func:`resize_patches`. The class token is left out.

    Args:
        weights: Tensors by name, of a known layout.
        backbone: The :class:`LanguageGuidedViT` that they are for.

    Returns:
        Tensors by our names, and what was resized, in words. What has no counterpart keeps its
        name.

    Raises:
        InputError: The layout is unknown, or the ViT has a norm before its first block.
    """
    found = _layout(weights)
    if found is None:
        raise InputError(
            'backbone.pretrained: the names of the weights are none of a ViT of timm, mmpretrain, '
            f'or transformers (ViT, DINOv2, SigLIP); the first is {next(iter(weights), None)}'
        )
    prefix, keys = found
    inside = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    first = next((name for name in inside if name.startswith(_FIRST_NORMS)), None)
    if first is not None:
        raise InputError(
            f'backbone.pretrained: {prefix}{first}, as in CLIP, is a norm before the first block, '
            'which LanguageGuidedViT does not have'
        )
    translated = {keys.to_ours(name) or name: value for name, value in inside.items()}
    _join_projections(translated)
    _fold_layer_scale(translated)
    return translated, list(_resize(translated, backbone))


def resize_patches(weight: Tensor, size: int) -> Tensor:
    """Resize a patch projection by the pseudo-inverse of bilinear interpolation.

    A larger patch that is an enlarged smaller one gives the same token as before. From FlexiViT
    (Beyer et al., CVPR 2023, section 3.4).

    Args:
        weight: (D, 3, p, p).
        size: Side of the new patches in pixels.

    Returns:
        (D, 3, size, size).
    """
    enlarge = stretch(torch.eye(weight.shape[-1], dtype=torch.float64), size, 'linear')
    inverse = torch.linalg.pinv(enlarge.T)  # (size, p)
    return (inverse @ weight.double() @ inverse.T).to(weight.dtype)


def _layout(weights: Mapping[str, Tensor]) -> tuple[str, KeyMap] | None:
    """Return what the names of a known layout begin with, and their translation."""
    if any('.rel_pos_' in name for name in weights):  # ours, detectron2's ViTDet, or SAM
        return None
    for pattern, rules in _LAYOUTS.items():
        for name in weights:
            match = re.fullmatch(pattern, name)
            if match:
                both = _BOTH if 'encoder.layer.{}' in str(rules) else {}
                return match[1], KeyMap([*rules.items(), *both.items()])
    return None


def _check_config(backbone: LanguageGuidedViT, config: Mapping[str, Any], source: str) -> None:
    """Check what a folder's ``config.json`` says and the shapes of the weights do not."""
    vision = config.get('vision_config') or config
    heads, own = vision.get('num_attention_heads'), backbone.num_heads
    if heads not in (None, own):
        raise InputError(
            f'backbone.pretrained={source!r}: {heads} attention heads, but backbone.num_heads is '
            f'{own}'
        )
    activation = vision.get('hidden_act', 'gelu')
    if activation not in _ACTIVATIONS:
        raise InputError(
            f'backbone.pretrained={source!r}: its activation is {activation}, but that of '
            'LanguageGuidedViT is gelu'
        )


def _join_projections(weights: dict[str, Tensor]) -> None:
    for name in [name for name in weights if '.attn.q.' in name]:
        parts = [name.replace('.attn.q.', f'.attn.{part}.') for part in 'qkv']
        if all(part in weights for part in parts):
            joined = torch.cat([weights.pop(part) for part in parts])
            weights[name.replace('.attn.q.', '.attn.qkv.')] = joined


def _fold_layer_scale(weights: dict[str, Tensor]) -> None:
    """Multiply the outputs of projections by the scales that follow them."""
    for name in [name for name in weights if name.endswith('.scale')]:
        scale, projection = weights.pop(name), name.removesuffix('.scale')
        for part in ('weight', 'bias'):
            value = weights.get(f'{projection}.{part}')
            if value is not None:
                rows = scale.view(-1, *(1,) * (value.dim() - 1))
                weights[f'{projection}.{part}'] = rows * value


def _resize(weights: dict[str, Tensor], backbone: LanguageGuidedViT) -> Iterator[str]:
    """Resize positions and patches in place where they differ, and say so."""
    positions = weights.get('pos_embed')
    if positions is not None:
        positions = positions.reshape(1, -1, positions.shape[-1])
        if math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:  # without a class token
            positions = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
        old = math.isqrt(positions.shape[1] - 1)
        new = math.isqrt(backbone.pos_embed.shape[1] - 1)
        if old != new:
            grid = resize_position_embedding(positions, (new, new)).flatten(1, 2)
            positions = torch.cat([positions[:, :1], grid], dim=1)
            yield f'positions from {old} x {old} to {new} x {new}'
        weights['pos_embed'] = positions
    patches = weights.get('patch_embed.weight')
    if patches is not None and patches.dim() == 4 and patches.shape[-1] != backbone.patch_size:
        weights['patch_embed.weight'] = resize_patches(patches, backbone.patch_size)
        yield f'patches from {patches.shape[-1]} to {backbone.patch_size} pixels'
