"""Names of the tensors of released PDSL checkpoints, and ours."""

from __future__ import annotations

from projects.common.convert import KeyMap


def _backbone_rules() -> list[tuple[str, str]]:
    rules = []
    for index in range(3):  # convolution, norm and ReLU alternate in our stem
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


#: A released checkpoint and :class:`~projects.pdsl.models.PDSL`.
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
