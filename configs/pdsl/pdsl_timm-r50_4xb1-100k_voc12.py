# PDSL with timm's ResNet-50 at stride 8 in place of ResNet50-WS: VOC 2012. Not in the paper.
# PDSL_TIMM: its weights: a file, a folder or a hub id, such as timm/resnet50.a1_in1k.
import os

_base_ = [
    './_base_/pdsl_r50.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='TimmFeatureMaps',
        name='resnet50',
        pretrained=os.environ.get('PDSL_TIMM'),
        out_indices=(4,),
        output_stride=8,
    ),
    roi_head=dict(bbox_head=dict(init_cfg=None)),
)
