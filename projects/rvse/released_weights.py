"""Conversion between our checkpoints and those of VSE-infinity, RVSE++, SCAN, BFAN and SGRAF.

All of them store a list of state dicts, ``model=[image encoder, text encoder]``; SGRAF adds the
similarity as a third. Checkpoints of models with BERT were saved through DataParallel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from projects.common.build import build_quietly
from projects.common.errors import InputError
from projects.common.weights.checkpoint import load_checkpoint_file
from projects.common.weights.convert import KeyMap, check_weights

from .models import (
    BERTCaptionEncoder,
    BFANSimilarity,
    ImageTextMatcher,
    RegionFCMLP,
    RegionParallelMLP,
    SCANSimilarity,
    SGRAFSimilarity,
)

__all__ = [
    'ReleasedConversion',
    'as_released_list',
    'check_options',
    'empty_matcher',
    'from_released',
    'read_released',
    'to_released',
]

VOCABULARY_KEYS = ('text_encoder._extra_state', 'text_encoder.encoder._extra_state')
#: Buffer that transformers 3 to 4.30 saved along with BERT's weights.
_POSITION_IDS = '1:bert.embeddings.position_ids'


@dataclass(frozen=True)
class ReleasedConversion:
    """Hold converted weights.

    Attributes:
        weights: Tensors by name. In the released layout, a name starts with the index in the list
            and a colon, as in ``0:fc.weight``, and has no ``module.`` prefix.
        dropped: Names of source tensors without a counterpart in the result.
        made: Names of result tensors that are missing in the source.
    """

    weights: dict[str, Tensor]
    dropped: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


def released_keys(model: ImageTextMatcher) -> KeyMap:
    """Map the names of released tensors (``<index in the list>:<name>``) to ours."""
    rnn = 'cap_rnn' if isinstance(model.similarity, SGRAFSimilarity) else 'rnn'
    return KeyMap(
        [
            ('0:', 'image_encoder.'),
            (f'1:{rnn}.', 'text_encoder.rnn.'),
            ('1:bert.', 'text_encoder.encoder.bert.'),
            ('1:', 'text_encoder.'),
            ('2:', 'similarity.'),
        ]
    )


def read_released(
    path: str | os.PathLike, trust: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the other entries of a released checkpoint.

    Args:
        path: The checkpoint file.
        trust: Unpickle without restrictions. This executes any code the file contains.

    Returns:
        Tensors named as in :class:`ReleasedConversion`, and the other entries. Only plain
        attributes are read from ``opt``, the command-line options of the training.

    Raises:
        FileNotFoundError: The file does not exist.
        pickle.UnpicklingError: The file is damaged or needs objects that weights do not need.
        ValueError: The file is not a released checkpoint.
    """
    content = load_checkpoint_file(Path(path), trust=trust)
    parts = content.get('model') if isinstance(content, Mapping) else None
    if not isinstance(parts, Sequence) or not 2 <= len(parts) <= 3:
        raise InputError(
            f'{path}: no released checkpoint: expected an entry model, a list of the state dicts '
            'of image encoder, text encoder and, of SGRAF, similarity'
        )
    weights: dict[str, Tensor] = {}
    for i, part in enumerate(parts):
        if not isinstance(part, Mapping) or not all(isinstance(v, Tensor) for v in part.values()):
            raise InputError(f'{path}: model[{i}] is no state dict')
        wrapped = bool(part) and all(key.startswith('module.') for key in part)
        for key, value in part.items():
            weights[f'{i}:{key.removeprefix("module.") if wrapped else key}'] = value
    return weights, {key: value for key, value in content.items() if key != 'model'}


def empty_matcher(cfg: Config, rows: int | None = None) -> ImageTextMatcher:
    """Build the model of a config on the meta device, without reading weights or a vocabulary.

    Args:
        cfg: The config.
        rows: Number of rows of the word embedding. None keeps the number in the config.

    Raises:
        ValueError: The model is not an :class:`ImageTextMatcher`, or it has a backbone.
    """
    model = deepcopy(cfg.model)
    if model.get('backbone') is not None:
        raise InputError(
            'model.backbone: a model that reads images has no released layout; expected one of '
            'precomputed regions'
        )
    encoder = model.get('text_encoder', {})
    for part in (encoder, encoder.get('encoder') or {}, model.get('image_encoder', {})):
        for source in ('pretrained', 'vocab_file', 'init_cfg'):
            if part.get(source) is not None:
                part[source] = None
    if encoder.get('type') == 'BiGRUTextEncoder' and rows is not None:
        encoder['vocab_size'] = rows
    with torch.device('meta'):
        built = build_quietly(model, cfg.get('default_scope', 'mmengine'))
    if not isinstance(built, ImageTextMatcher):
        raise InputError(f'{type(built).__name__}: expected a config of an ImageTextMatcher')
    return built


def from_released(
    weights: Mapping[str, Tensor],
    model: ImageTextMatcher,
    vocabulary: Tensor | None = None,
    what: str = 'checkpoint',
) -> ReleasedConversion:
    """Convert released weights to ours.

    Tensors that no forward pass reads (a second batch norm of the MLP, BERT's pooler) are dropped.

    Args:
        weights: Released weights, named as by :func:`read_released`.
        model: The model to convert for. Only its structure is read.
        vocabulary: ``text_encoder.get_extra_state()``. None leaves the vocabulary empty, and the
            config then has to name one.
        what: Name of the weights in error messages.

    Raises:
        ValueError: A tensor is missing, unexpected or has the wrong shape.
    """
    keys, shapes = released_keys(model), _shapes(model)
    dead = _dead_tensors(model)
    released = keys.all_to_theirs(shapes)
    found = {key: value for key, value in weights.items() if key != _POSITION_IDS}
    expected = {**released, **{key: value.shape for key, value in dead.items()}}
    check_weights(found, expected, f'{what} is no released checkpoint of this model')
    converted = keys.all_to_ours({key: weights[key] for key in released})
    for key in model.state_dict():
        if key in VOCABULARY_KEYS:
            empty = torch.zeros(0, dtype=torch.uint8)
            converted[key] = empty if vocabulary is None else vocabulary
    dropped = tuple(key for key in weights if key not in released)
    return ReleasedConversion(converted, dropped=dropped)


def to_released(
    weights: Mapping[str, Tensor],
    model: ImageTextMatcher,
    original: Mapping[str, Tensor] | None = None,
    what: str = 'checkpoint',
) -> ReleasedConversion:
    """Convert our weights to released ones.

    Args:
        weights: Our state dict. The vocabulary it contains is dropped.
        model: The model the weights belong to. Only its structure is read.
        original: Weights of a released checkpoint that provide the tensors no forward pass reads.
            None creates these tensors with their initial values.
        what: Name of the weights in error messages.

    Raises:
        ValueError: A tensor is missing, unexpected or has the wrong shape.
    """
    keys, shapes = released_keys(model), _shapes(model)
    dropped = tuple(key for key in weights if key in VOCABULARY_KEYS)
    ours = {key: value for key, value in weights.items() if key not in dropped}
    check_weights(ours, shapes, f'{what} holds no weights of this model')
    converted = keys.all_to_theirs(ours)
    dead = _dead_tensors(model)
    if original is not None:
        shapes = {key: value.shape for key, value in {**converted, **dead}.items()}
        found = {key: value for key, value in original.items() if key != _POSITION_IDS}
        check_weights(found, shapes, 'the original is no released checkpoint of this model')
        dead = {key: value for key, value in original.items() if key not in converted}
    made = () if original is not None else tuple(dead)
    return ReleasedConversion({**converted, **dead}, dropped, made)


def as_released_list(
    weights: Mapping[str, Tensor], model: ImageTextMatcher
) -> list[dict[str, Tensor]]:
    """Return the list that a released checkpoint stores as ``model``."""
    prefix = 'module.' if isinstance(model.text_encoder, BERTCaptionEncoder) else ''
    parts: list[dict[str, Tensor]] = [{}, {}]
    if isinstance(model.similarity, SGRAFSimilarity):
        parts.append({})
    for key, value in weights.items():
        place, name = key.split(':', 1)
        parts[int(place)][prefix + name] = value
    return parts


def check_options(options: object, model: ImageTextMatcher, what: str = 'checkpoint') -> None:
    """Check that the options of a released checkpoint agree with the model's similarity.

    The similarities of SCAN and BFAN have no weights, so only the options tell which one was
    trained.

    Args:
        options: The entry ``opt``. Options it does not contain are not compared.
        model: The model the weights are for.
        what: Name of the weights in error messages.

    Raises:
        ValueError: An option differs.
    """
    similarity = model.similarity
    compared: dict[str, object] = {}
    if isinstance(similarity, SCANSimilarity):
        names = {'AVG': 'Mean', 'LSE': 'LogSumExp', 'max': 'Max', 'sum': 'Sum'}
        compared = dict(
            cross_attn=similarity.direction,
            agg_func=names[similarity.aggregation],
            lambda_softmax=similarity.smooth,
        )
        if similarity.aggregation == 'LSE':
            compared['lambda_lse'] = similarity.lambda_lse
    elif isinstance(similarity, BFANSimilarity):
        compared = dict(focal_type=similarity.focus_name)
    for name, ours in compared.items():
        theirs = getattr(options, name, None)
        if theirs is not None and theirs != ours:
            raise InputError(
                f'{what}: opt.{name} is {theirs!r}, but the config has {ours!r}; choose the '
                'config of the model that was trained'
            )


def _shapes(model: ImageTextMatcher) -> dict[str, Sequence[int]]:
    """Return the shapes of our tensors that also exist in the released layout."""
    keys = released_keys(model)
    shapes = {k: v.shape for k, v in model.state_dict().items() if k not in VOCABULARY_KEYS}
    for key in shapes:
        theirs = keys.to_theirs(key)
        if theirs is None or keys.to_ours(theirs) != key:
            raise InputError(f'{key}: the released layouts have no such tensor')
    return shapes


def _dead_tensors(model: ImageTextMatcher) -> dict[str, Tensor]:
    """Return initial values of the released tensors that no forward pass reads."""
    dead = {}
    if isinstance(model.image_encoder, (RegionFCMLP, RegionParallelMLP)):
        with torch.device('cpu'):
            norm = nn.BatchNorm1d(model.image_encoder.fc.out_features)
        dead = {f'0:mlp.bns.1.{key}': value for key, value in norm.state_dict().items()}
    if isinstance(model.text_encoder, BERTCaptionEncoder):
        size = model.text_encoder.encoder.out_channels
        dead['1:bert.pooler.dense.weight'] = torch.zeros(size, size)
        dead['1:bert.pooler.dense.bias'] = torch.zeros(size)

    return dead
