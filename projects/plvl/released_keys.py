"""Mapping between the tensor names of released checkpoints and of this project."""

from __future__ import annotations

from projects.common.weights.convert import KeyMap


def _backbone_rules(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Return the renaming rules for ViTDet tensors below two prefixes."""
    return [
        (f'{theirs}pos_embed', f'{ours}pos_embed'),
        (f'{theirs}patch_embed.proj.weight', f'{ours}patch_embed.weight'),
        (f'{theirs}patch_embed.proj.bias', f'{ours}patch_embed.bias'),
        (f'{theirs}blocks.{{}}.mlp.fc1.', f'{ours}blocks.{{}}.mlp.0.'),
        (f'{theirs}blocks.{{}}.mlp.fc2.', f'{ours}blocks.{{}}.mlp.2.'),
        (f'{theirs}blocks.', f'{ours}blocks.'),
    ]


_BODY = 'visumodel.backbone.0.body.'
#: Maps the released PLVL checkpoint to :class:`~projects.plvl.models.PLVL`.
PLVL_KEYS = KeyMap(
    [
        ('textmodel.bert.', 'text_encoder.bert.'),
        (f'{_BODY}prompt_norms.{{}}.', 'backbone.blocks.{}.adapter.norm.'),
        (f'{_BODY}prompt_blocks.{{}}.down_project.', 'backbone.blocks.{}.adapter.down.'),
        (f'{_BODY}prompt_blocks.{{}}.up_project.', 'backbone.blocks.{}.adapter.up.'),
        *_backbone_rules(_BODY, 'backbone.'),
        ('visu_proj.', 'decoder.visual_proj.'),
        ('text_proj.', 'decoder.text_proj.'),
        ('decoder.decoder.', 'decoder.decoder.'),
        ('bbox_embed.conv1_ctr.0.', 'head.stems.0.conv.'),
        ('bbox_embed.conv1_ctr.1.', 'head.stems.0.bn.'),
        ('bbox_embed.conv1_offset.0.', 'head.stems.1.conv.'),
        ('bbox_embed.conv1_offset.1.', 'head.stems.1.bn.'),
        ('bbox_embed.conv2_ctr.0.', 'head.branches.center.0.conv.'),
        ('bbox_embed.conv2_ctr.1.', 'head.branches.center.0.bn.'),
        ('bbox_embed.conv3_ctr.', 'head.branches.center.1.'),
        ('bbox_embed.conv2_seg.0.', 'head.branches.mask.0.conv.'),
        ('bbox_embed.conv2_seg.1.', 'head.branches.mask.0.bn.'),
        ('bbox_embed.conv3_seg.', 'head.branches.mask.2.'),
        ('bbox_embed.conv2_{}.0.', 'head.branches.{}.0.conv.'),
        ('bbox_embed.conv2_{}.1.', 'head.branches.{}.0.bn.'),
        ('bbox_embed.conv3_{}.', 'head.branches.{}.1.'),
    ]
)
#: Tensors of the released checkpoint that no forward pass uses. The norms of blocks without
#: language are unused as well.
DEAD_KEYS = (
    r'textmodel\.bert\.pooler\.',
    r'mask_head\.',
    r'mask_cnn\.',
)
#: Maps detectron2's ViTDet to :class:`~projects.plvl.models.LanguageGuidedViT`.
VITDET_KEYS = KeyMap(_backbone_rules('backbone.net.', ''))
#: The rest of a ViTDet detector: feature pyramid, proposals, heads and pixel statistics.
VITDET_DETECTOR_KEYS = (
    r'backbone\.simfp_',
    r'proposal_generator\.',
    r'roi_heads\.',
    r'pixel_(mean|std)$',
)
