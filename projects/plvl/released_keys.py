"""Names of the released PLVL checkpoint's tensors, and ours."""

from __future__ import annotations

import re

_BODY = r'visumodel\.backbone\.0\.body\.'
_RULES = [
    (r'textmodel\.bert\.', 'text_encoder.bert.'),
    (_BODY + r'pos_embed', 'backbone.pos_embed'),
    (_BODY + r'patch_embed\.proj\.', 'backbone.patch_embed.'),
    (_BODY + r'blocks\.(\d+)\.mlp\.fc1\.', r'backbone.blocks.\1.mlp.0.'),
    (_BODY + r'blocks\.(\d+)\.mlp\.fc2\.', r'backbone.blocks.\1.mlp.2.'),
    (_BODY + r'blocks\.', 'backbone.blocks.'),
    (_BODY + r'prompt_norms\.(\d+)\.', r'backbone.blocks.\1.adapter.norm.'),
    (_BODY + r'prompt_blocks\.(\d+)\.down_project\.', r'backbone.blocks.\1.adapter.down.'),
    (_BODY + r'prompt_blocks\.(\d+)\.up_project\.', r'backbone.blocks.\1.adapter.up.'),
    (r'visu_proj\.', 'decoder.visual_proj.'),
    (r'text_proj\.', 'decoder.text_proj.'),
    (r'decoder\.decoder\.', 'decoder.decoder.'),
    (r'bbox_embed\.conv1_ctr\.0\.', 'head.stems.0.conv.'),
    (r'bbox_embed\.conv1_ctr\.1\.', 'head.stems.0.bn.'),
    (r'bbox_embed\.conv1_offset\.0\.', 'head.stems.1.conv.'),
    (r'bbox_embed\.conv1_offset\.1\.', 'head.stems.1.bn.'),
    (r'bbox_embed\.conv2_ctr\.0\.', 'head.branches.center.0.conv.'),
    (r'bbox_embed\.conv2_ctr\.1\.', 'head.branches.center.0.bn.'),
    (r'bbox_embed\.conv3_ctr\.', 'head.branches.center.1.'),
    (r'bbox_embed\.conv2_seg\.0\.', 'head.branches.mask.0.conv.'),
    (r'bbox_embed\.conv2_seg\.1\.', 'head.branches.mask.0.bn.'),
    (r'bbox_embed\.conv3_seg\.', 'head.branches.mask.2.'),
    (r'bbox_embed\.conv2_(offset|size)\.0\.', r'head.branches.\1.0.conv.'),
    (r'bbox_embed\.conv2_(offset|size)\.1\.', r'head.branches.\1.0.bn.'),
    (r'bbox_embed\.conv3_(offset|size)\.', r'head.branches.\1.1.'),
]
#: Tensors of the released checkpoint that its forward pass never uses.
DEAD_KEYS = (
    r'textmodel\.bert\.pooler\.',
    r'mask_head\.',
    r'mask_cnn\.',
)


def from_released_key(key: str) -> str | None:
    """Our name of a released tensor; None for a dead one.

    Raises:
        KeyError: The released checkpoint has no such tensor.
    """
    if any(re.match(pattern, key) for pattern in DEAD_KEYS):
        return None
    for pattern, ours in _RULES:
        renamed, count = re.subn('^' + pattern, ours, key)
        if count:
            return renamed
    raise KeyError(f'{key}: no tensor of the released PLVL checkpoint has this name')
