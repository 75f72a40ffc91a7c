"""Conversion of released backbones and PDSL checkpoints to our weights, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from projects.common import config_index
from projects.common.build import build_quietly
from projects.common.errors import InputError
from projects.common.weights.convert import Conversion, check_weights

from .models import DANNeck, ResNetWS, use_no_cue
from .released_keys import (
    IMAGENET_FOR_DETECTION_KEYS,
    IMAGENET_KEYS,
    PDSL_KEYS,
    caffe2_name,
)

__all__ = [
    'config_of_weights',
    'convert_detector',
    'convert_imagenet',
    'find_kind',
    'find_layout',
]

_COUNTER = 'num_batches_tracked'  # only in our batch norms, not in detectron2's frozen ones
#: Stored with the weights in released detector checkpoints; in our case, part of the config.
_PREPROCESSING = ('pixel_mean', 'pixel_std')
#: Initial variance of detectron2's FrozenBatchNorm, which it keeps if a .pkl has affine norms only;
#: adding the norm's epsilon gives a variance of 1.
_UNIT_VARIANCE = 1 - 1e-5


def find_layout(weights: Mapping[str, Tensor], what: str = 'checkpoint') -> str:
    """Return the naming scheme of the tensors.

    Args:
        weights: Tensors by name.
        what: Name of the weights in error messages.

    Returns:
        'ours', 'released', 'caffe2', or 'released for detection' for an ImageNet ``.pth`` that went
        through the released code's own conversion.

    Raises:
        ValueError: The names match none of these schemes.
    """
    for key, layout in (
        ('backbone.stem.0.weight', 'ours'),
        ('stem_conv1_w', 'caffe2'),
        ('backbone.stem.conv1.weight', 'released'),
    ):
        if key in weights:
            converted = layout == 'released' and find_kind(weights) == 'imagenet'
            if converted and 'roi_heads.box_head.fc1.weight' in weights:
                return 'released for detection'
            return layout
    raise InputError(
        f'{what}: neither a ResNet-WS nor a PDSL, released or ours: of backbone.stem.0.weight '
        '(ours), backbone.stem.conv1.weight (released) and stem_conv1_w (Caffe2) none is among its '
        f'{len(weights)} tensors (first: {next(iter(weights), "none")})'
    )


def find_kind(weights: Mapping[str, Tensor]) -> str:
    """Return 'detector' for the weights of a PDSL, otherwise 'imagenet', in any layout."""
    heads = ('roi_heads.box_predictor.', 'roi_heads.box_refinery', 'roi_head.')
    return 'detector' if any(key.startswith(heads) for key in weights) else 'imagenet'


def _depth(weights: Mapping[str, Tensor], what: str) -> int:
    """Return the depth of a ResNet-WS, derived from the blocks of its res4, in any layout."""
    pattern = r'(?:backbone\.layer3\.|backbone\.res4\.|res4_)(\d+)[._]'
    found = [re.match(pattern, key) for key in weights]
    count = 1 + max((int(match[1]) for match in found if match), default=-1)
    deep = any(re.match(pattern + r'(conv3|branch2c)', key) for key in weights)
    depth = {(2, False): 18, (6, True): 50, (23, True): 101}.get((count, deep))
    if depth is None:
        raise InputError(
            f'{what}: res4 has {count} blocks of {3 if deep else 2} convolutions; expected '
            'ResNet-WS of 18 (2 blocks of 2), 50 (6 of 3) or 101 layers (23 of 3)'
        )
    return depth


# ------------------------------------------------------------------------------------ ImageNet


def _imagenet_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of backbone and FC layers of configs/pdsl/pretrain, by our names."""
    channels, first = (512, 4096) if depth == 18 else (2048, 2048)
    with torch.device('meta'):
        parts: dict[str, nn.Module] = dict(
            backbone=ResNetWS(depth), neck=DANNeck(channels, fc_channels=(first, 4096))
        )
    return {
        f'{name}.{key}': tuple(value.shape)
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def convert_imagenet(
    weights: Mapping[str, Tensor], to: str = 'ours', what: str = 'checkpoint'
) -> Conversion:
    """Convert a ResNet-WS trained on ImageNet from any layout to another.

    Our layout is that of configs/pdsl/pretrain and of ``PDSL_PRETRAINED``: the backbone, the fully
    connected layers (``neck``) and, if the source has it, the classifier (``head``). The norms in a
    ``.pkl`` may be affine only; their statistics are then set to 0 and 1.

    Args:
        weights: Tensors by name.
        to: 'ours', 'released' (``.pth``) or 'caffe2' (``.pkl``).
        what: Name of the weights in error messages.

    Raises:
        ValueError: A tensor is missing, unexpected or has the wrong shape.
    """
    weights = {key: value for key, value in weights.items() if not key.endswith('_momentum')}
    layout, depth = find_layout(weights, what), _depth(weights, what)
    shapes = _imagenet_shapes(depth)
    classifier: dict[str, tuple[int, ...]] = {
        'head.fc.weight': (1000, 4096),
        'head.fc.bias': (1000,),
    }
    for key, shape in classifier.items():
        if _their_name(key, layout) in weights:
            shapes[key] = shape
    named = {key: _their_name(key, layout) for key in shapes}
    made = [key for key in shapes if key.endswith(_COUNTER) and named[key] not in weights]
    if layout == 'caffe2' and not any(key.endswith(('_bn_rm', '_bn_riv')) for key in weights):
        made += [key for key in shapes if key.endswith(('running_mean', 'running_var'))]
    source = {key: name for key, name in named.items() if name is not None and key not in made}
    expected = {name: shapes[key] for key, name in source.items()}
    check_weights(weights, expected, f'{what} is no ResNet{depth}-WS')
    ours = {}
    for key, shape in shapes.items():
        if key in made:
            unit = key.endswith('running_var')
            kind = torch.long if key.endswith(_COUNTER) else torch.float32
            ours[key] = torch.full(shape, _UNIT_VARIANCE if unit else 0, dtype=kind)
        else:
            ours[key] = weights[source[key]]
    if to == 'ours':
        return Conversion(ours, made=tuple(made))
    names = {key: _their_name(key, to) for key in ours}
    return Conversion(
        {name: ours[key] for key, name in names.items() if name is not None},
        dropped=tuple(source[key] for key, name in names.items() if name is None and key in source),
    )


def _their_name(key: str, layout: str) -> str | None:
    """Return the name of one of our tensors in a layout, or None if it does not exist there."""
    if layout == 'ours':
        return key
    if layout == 'caffe2':
        return caffe2_name(key)
    keys = IMAGENET_KEYS if layout == 'released' else IMAGENET_FOR_DETECTION_KEYS
    return keys.to_theirs(key)


# ------------------------------------------------------------------------------------ detector


def config_of_weights(
    weights: Mapping[str, Tensor], what: str = 'checkpoint'
) -> tuple[Path, Config]:
    """Return the released config of a PDSL's depth, with its heads adapted to the weights.

    Args:
        weights: Tensors by name, released or ours.
        what: Name of the weights in error messages.

    Returns:
        The config file, and its config with these values taken from the weights: the number of
        classes, of refinement heads (with or without boxes) and of mask heads, and the number of
        channels of M^0.
    """
    theirs = weights
    if find_layout(weights, what) == 'ours':
        theirs = {PDSL_KEYS.to_theirs(key) or key: value for key, value in weights.items()}
    path = config_index.find_config(f'pdsl_r{_depth(weights, what)}-released_4xb1-60k_voc12')
    cfg = Config.fromfile(path)
    classifier = theirs.get('roi_heads.box_predictor.cls.weight')
    mask = theirs.get('roi_heads.mask_head.predictor.weight')
    if classifier is None or mask is None:
        absent = 'box_predictor.cls' if classifier is None else 'mask_head.predictor'
        raise InputError(f'{what} is no PDSL: it has no roi_heads.{absent}.weight, or ours of it')

    def count(name: str) -> int:
        found = (re.match(rf'roi_heads\.{name}_(\d+)\.', key) for key in theirs)
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    box = dict(num_classes=len(classifier), num_refinements=count('box_refinery'))
    box['with_reg'] = any('.bbox_pred.' in key for key in theirs)
    agnostic = len(mask) == 1 < len(classifier)
    masks = dict(
        num_classes=len(classifier),
        num_specific=count('mask_refinery'),
        class_agnostic=agnostic,
    )
    cfg.merge_from_dict({'model.roi_head': dict(bbox_head=box, mask_head=masks)})
    return path, cfg


def convert_detector(
    weights: Mapping[str, Tensor], cfg: Config, to: str = 'ours', what: str = 'checkpoint'
) -> Conversion:
    """Convert a PDSL from the released layout to ours, or from ours to the released one.

    Args:
        weights: Tensors by name.
        cfg: Config of our model.
        to: 'ours' or 'released'.
        what: Name of the weights in error messages.

    Raises:
        ValueError: A tensor is missing, unexpected or has the wrong shape.
    """
    model = deepcopy(cfg.model)
    use_no_cue(model)
    for part in (model.backbone, model.roi_head.bbox_head):
        part.init_cfg = None
    with torch.device('meta'):
        built: Any = build_quietly(model, cfg.get('default_scope', 'mmdet'))
    shapes = {key: tuple(value.shape) for key, value in built.state_dict().items()}
    counters = [key for key in shapes if key.endswith(_COUNTER)]
    own = {key: shape for key, shape in shapes.items() if key not in counters}
    released = PDSL_KEYS.all_to_theirs(own)
    if to == 'released':
        check_weights(weights, shapes, f'{what} holds no weights of this model')
        kept = {key: weights[key] for key in own}
        return Conversion(PDSL_KEYS.all_to_theirs(kept), dropped=tuple(counters))
    dropped = [key for key in weights if key in _PREPROCESSING]
    if not built.roi_head.bbox_head.with_reg:  # COCO's have untrained regression layers
        pattern = r'roi_heads\.box_refinery_\d+\.bbox_pred\.'
        dropped += [key for key in weights if re.match(pattern, key)]
    found = {key: value for key, value in weights.items() if key not in dropped}
    check_weights(found, released, f'{what} is no released PDSL checkpoint for this model')
    ours = PDSL_KEYS.all_to_ours(found)
    ours.update({key: torch.zeros((), dtype=torch.long) for key in counters})
    return Conversion({key: ours[key] for key in shapes}, tuple(dropped), tuple(counters))
