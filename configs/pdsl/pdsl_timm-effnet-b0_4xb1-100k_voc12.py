# PDSL with timm's EfficientNet-B0 at stride 16 in place of ResNet-WS: VOC 2012. Not in the paper.
# PDSL_TIMM: its weights: a file, a folder or a hub id, such as timm/efficientnet_b0.ra_in1k.
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
        pad_size_divisor=16,
    ),
    backbone=dict(
        _delete_=True,
        type='TimmFeatureMaps',
        name='efficientnet_b0',
        pretrained=os.environ.get('PDSL_TIMM'),
        out_indices=(4,),
        output_stride=16,
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=320, featmap_strides=[16]),
        bbox_head=dict(in_channels=320, init_cfg=None),
        mask_roi_extractor=dict(out_channels=320, featmap_strides=[16]),
        mask_head=dict(in_channels=320),
    ),
)
