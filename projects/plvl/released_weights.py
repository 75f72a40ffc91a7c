"""Conversion of released PLVL and ViTDet checkpoints to this project, and of PLVL back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy

import torch
from mmengine.config import Config
from torch import Tensor, nn

from projects.common.build import build_quietly
from projects.common.errors import InputError
from projects.common.weights.convert import Conversion, check_weights

from .models import PLVL, LanguageGuidedViT
from .released_keys import DEAD_KEYS, PLVL_KEYS, VITDET_DETECTOR_KEYS, VITDET_KEYS

__all__ = ['convert_plvl', 'convert_vitdet', 'empty_model']

VOCABULARY_KEY = 'text_encoder._extra_state'
RELEASED_GROUPS = (('center', 'mask'), ('offset', 'size'))


def empty_model(cfg: Config) -> nn.Module:
    """Build the model of a config on the meta device, without reading pretrained weights."""
    model = deepcopy(cfg.model)
    for part in ('text_encoder', 'backbone'):
        for source in ('pretrained', 'vocab_file', 'init_cfg'):
            if part in model and source in model[part]:
                model[part][source] = None
    with torch.device('meta'):
        return build_quietly(model, cfg.get('default_scope', 'mmengine'))


def convert_plvl(
    weights: Mapping[str, Tensor],
    model: nn.Module,
    to: str = 'ours',
    original: Mapping[str, Tensor] | None = None,
    vocabulary: Tensor | None = None,
    what: str = 'checkpoint',
) -> Conversion:
    """Convert weights from the released layout to ours, or from ours to the released one.

    The released layout has tensors that no forward pass uses (BERT's pooler, an old mask head,
    norms of blocks without language). They are dropped on conversion to our layout. On conversion
    back they are taken from ``original``, or created as zeros and, for the norms, ones. Our layout
    holds the vocabulary, which is dropped on conversion back.

    Args:
        weights: Tensors by name.
        model: The :class:`PLVL` that our weights belong to; only its structure is read.
        to: 'ours' or 'released'.
        original: Weights in the released layout that provide the unused tensors.
        vocabulary: Result of ``text_encoder.get_extra_state()``, for our layout. None leaves it
            empty, and the config must then name a vocabulary.
        what: Name of the weights in error messages.

    Raises:
        ValueError: If a tensor is missing, unexpected or misshapen, or the model has no released
            counterpart.
    """
    if to not in ('ours', 'released'):
        raise InputError(f"to={to!r}: expected 'ours' or 'released'")
    plvl = _check_model(model)
    shapes = {key: value.shape for key, value in _tensors(plvl).items()}
    released = PLVL_KEYS.all_to_theirs(shapes)
    dead = _dead_tensors(plvl)
    full = {**released, **{key: value.shape for key, value in dead.items()}}
    if to == 'ours':
        check_weights(weights, full, f'{what} is no released PLVL checkpoint for this model')
        converted = PLVL_KEYS.all_to_ours({key: weights[key] for key in released})
        empty = torch.zeros(0, dtype=torch.uint8)
        converted[VOCABULARY_KEY] = empty if vocabulary is None else vocabulary
        return Conversion(converted, dropped=tuple(key for key in weights if key in dead))
    ours = {key: value for key, value in weights.items() if key != VOCABULARY_KEY}
    check_weights(ours, shapes, f'{what} holds no weights of this model')
    if original is not None:
        check_weights(original, full, 'the original is no released PLVL checkpoint for this model')
        dead = {key: original[key] for key in dead}
    return Conversion(
        {**PLVL_KEYS.all_to_theirs(ours), **dead},
        dropped=tuple(key for key in weights if key == VOCABULARY_KEY),
        made=() if original is not None else tuple(dead),
    )


def convert_vitdet(
    weights: Mapping[str, Tensor], backbone: LanguageGuidedViT, what: str = 'checkpoint'
) -> Conversion:
    """Convert detectron2's ViTDet (``backbone.net.*``) to :class:`LanguageGuidedViT`.

    The feature pyramid, proposals and heads of the detector are dropped. Modules that read language
    (cross-attention and adapters) do not exist in ViTDet. They keep their initialization and are
    not part of the result.

    Args:
        weights: Tensors by name.
        backbone: The backbone that the weights are for; only its structure is read.
        what: Name of the weights in error messages.

    Returns:
        Weights for ``LanguageGuidedViT(pretrained=...)``; ``made`` lists the missing tensors.

    Raises:
        ValueError: If a tensor is missing, unexpected or misshapen.
    """
    shapes = {key: value.shape for key, value in _tensors(backbone).items()}
    language = [key for key in shapes if re.match(r'blocks\.\d+\.(cross_attn|adapter)\.', key)]
    expected = {}
    for key in shapes:
        if key in language:
            continue
        theirs = VITDET_KEYS.to_theirs(key)
        if theirs is None:
            raise InputError(f'backbone: {key} has no counterpart in ViTDet')
        expected[theirs] = shapes[key]
    if not any(key.startswith('backbone.net.') for key in weights):
        raise InputError(
            f'{what} is no ViTDet checkpoint: {len(expected)} tensors backbone.net.* expected, '
            f'none of its {len(weights)} tensors is one (first: {next(iter(weights))})'
        )
    dropped = [
        key for key in weights if any(re.match(pattern, key) for pattern in VITDET_DETECTOR_KEYS)
    ]
    found = {key: value for key, value in weights.items() if key not in set(dropped)}
    check_weights(found, expected, f'{what} is no ViTDet checkpoint for this backbone')
    return Conversion(VITDET_KEYS.all_to_ours(found), dropped=tuple(dropped), made=tuple(language))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in model.state_dict().items() if key != VOCABULARY_KEY}


def _check_model(model: nn.Module) -> PLVL:
    """Return the model, or raise if the released code cannot express it."""
    if not isinstance(model, PLVL) or not isinstance(model.backbone, LanguageGuidedViT):
        raise InputError(f'{type(model).__name__}: only PLVL on LanguageGuidedViT was released')
    # Another grouping has tensors of the same shapes with a different meaning.
    groups = getattr(model.head, 'groups', None)
    if groups != RELEASED_GROUPS:
        raise InputError(f'head.groups: {groups}; the released layout has {RELEASED_GROUPS}')
    for key in _tensors(model):
        theirs = PLVL_KEYS.to_theirs(key)
        if theirs is None or PLVL_KEYS.to_ours(theirs) != key:
            raise InputError(f'{key}: the released layout has no such tensor')
    return model


def _dead_tensors(model: PLVL) -> dict[str, Tensor]:
    """Create the unused tensors of the released layout."""
    text, fused = model.text_encoder.out_channels, model.decoder.out_channels
    patch = model.head.patch_size**2
    shapes = {
        'textmodel.bert.pooler.dense.weight': (text, text),
        'textmodel.bert.pooler.dense.bias': (text,),
        'mask_head.layers.0.weight': (fused, fused),
        'mask_head.layers.0.bias': (fused,),
        'mask_head.layers.1.weight': (patch, fused),
        'mask_head.layers.1.bias': (patch,),
        'mask_cnn.weight': (1, 1, 5, 5),
        'mask_cnn.bias': (1,),
    }
    assert all(any(re.match(pattern, key) for pattern in DEAD_KEYS) for key in shapes)
    dead = {key: torch.zeros(shape) for key, shape in shapes.items()}
    for i, block in enumerate(model.backbone.blocks):
        if not block.sees_language:
            norm = f'visumodel.backbone.0.body.prompt_norms.{i}'
            dead[f'{norm}.weight'] = torch.ones(text)
            dead[f'{norm}.bias'] = torch.zeros(text)
    return dead
