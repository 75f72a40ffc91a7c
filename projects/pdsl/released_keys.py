"""Tensor names in released PDSL checkpoints and ImageNet backbones, and their names here."""

from __future__ import annotations

import re

from projects.common.weights.convert import KeyMap


def _backbone_rules() -> list[tuple[str, str]]:
    rules = []
    for index in range(3):  # our stem alternates convolution, norm and ReLU
        theirs = f'backbone.stem.conv{index + 1}.'
        rules += [
            (f'{theirs}norm.', f'backbone.stem.{3 * index + 1}.'),
            (theirs, f'backbone.stem.{3 * index}.'),
        ]
    for index in range(1, 5):
        theirs, ours = f'backbone.res{index + 1}.{{}}.', f'backbone.layer{index}.{{}}.'
        rules += [
            (f'{theirs}shortcut.norm.', f'{ours}downsample.1.'),
            (f'{theirs}shortcut.', f'{ours}downsample.0.'),
        ]
        for conv in range(1, 4):
            rules += [
                (f'{theirs}conv{conv}.norm.', f'{ours}bn{conv}.'),
                (f'{theirs}conv{conv}.', f'{ours}conv{conv}.'),
            ]
    return rules


#: A released checkpoint <-> :class:`~projects.pdsl.models.PDSL`.
PDSL_KEYS = KeyMap(
    [
        *_backbone_rules(),
        ('roi_heads.box_head.fc1.', 'roi_head.bbox_head.fcs.0.'),
        ('roi_heads.box_head.fc2.', 'roi_head.bbox_head.fcs.1.'),
        ('roi_heads.box_predictor.cls.', 'roi_head.bbox_head.classification.'),
        ('roi_heads.box_predictor.det.', 'roi_head.bbox_head.detection.'),
        ('roi_heads.box_refinery_{}.cls_score.', 'roi_head.bbox_head.refinements.{}.cls.'),
        ('roi_heads.box_refinery_{}.bbox_pred.', 'roi_head.bbox_head.refinements.{}.reg.'),
        *(
            (f'roi_heads.mask_head.mask_fcn{i + 1}.', f'roi_head.mask_head.convs.{i}.conv.')
            for i in range(4)
        ),
        ('roi_heads.mask_head.deconv.', 'roi_head.mask_head.upsample.'),
        ('roi_heads.mask_head.predictor.', 'roi_head.mask_head.conv_logits.'),
        ('roi_heads.mask_refinery_{}.predictor.', 'roi_head.mask_head.specific_logits.{}.'),
    ]
)

#: ``*_119_iter.pth`` as written by the released ImageNet training <-> our pre-training model
#: (configs/pdsl/pretrain).
IMAGENET_KEYS = KeyMap(
    [
        *_backbone_rules(),
        ('neck.fc1.', 'neck.fcs.0.'),
        ('neck.fc2.', 'neck.fcs.1.'),
        ('linear.', 'head.fc.'),
    ]
)

#: The same file after the released code's own conversion for detection.
IMAGENET_FOR_DETECTION_KEYS = KeyMap(
    [
        *_backbone_rules(),
        ('roi_heads.box_head.fc1.', 'neck.fcs.0.'),
        ('roi_heads.box_head.fc2.', 'neck.fcs.1.'),
        ('module.linear.', 'head.fc.'),
    ]
)

_CAFFE2_NORM = dict(weight='s', bias='b', running_mean='rm', running_var='riv')
_CAFFE2_PARTS = (
    (r'backbone\.stem\.conv(\d)', r'stem_conv\1'),
    (r'backbone\.res(\d)\.(\d+)\.shortcut', r'res\1_\2_branch1'),
    (r'backbone\.res(\d)\.(\d+)\.conv1', r'res\1_\2_branch2a'),
    (r'backbone\.res(\d)\.(\d+)\.conv2', r'res\1_\2_branch2b'),
    (r'backbone\.res(\d)\.(\d+)\.conv3', r'res\1_\2_branch2c'),
    (r'neck\.fc(\d)', r'fc\1'),
    (r'linear', 'pred'),
)


def caffe2_name(key: str) -> str | None:
    """Return the name that a ``resnet*_ws_model_120*.pkl`` uses for a tensor of our pre-training.

    Args:
        key: Our name, such as ``backbone.layer1.0.bn2.running_var``.

    Returns:
        A name such as ``res2_0_branch2b_bn_riv``; None if such files have no such tensor.
    """
    key = IMAGENET_KEYS.to_theirs(key) or ''
    place, _, field = key.rpartition('.')
    norm = place.endswith('.norm')
    suffix = _CAFFE2_NORM.get(field) if norm else dict(weight='w', bias='b').get(field)
    for pattern, beginning in _CAFFE2_PARTS:
        found = re.fullmatch(pattern, place.removesuffix('.norm'))
        if found and suffix:
            return f'{found.expand(beginning)}{"_bn" if norm else ""}_{suffix}'
    return None
