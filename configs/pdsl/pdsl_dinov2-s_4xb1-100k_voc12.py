# PDSL with a frozen DINOv2-S of transformers, at its stride of 14, in place of ResNet-WS: VOC 2012.
# Not in the paper.
# PDSL_DINOV2: its weights: a folder or a hub id, such as facebook/dinov2-small.
import os

_base_ = [
    './_base_/pdsl_r18.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=14,
    ),
    backbone=dict(
        _delete_=True,
        type='TransformersFeatureMaps',
        pretrained=os.environ.get('PDSL_DINOV2'),
        config=None
        if os.environ.get('PDSL_DINOV2')
        else dict(
            model_type='dinov2',
            hidden_size=384,
            num_attention_heads=6,
            image_size=518,
            patch_size=14,
        ),
        frozen=True,
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=384, featmap_strides=[14]),
        bbox_head=dict(in_channels=384, init_cfg=None),
        mask_roi_extractor=dict(out_channels=384, featmap_strides=[14]),
        mask_head=dict(in_channels=384),
    ),
)
