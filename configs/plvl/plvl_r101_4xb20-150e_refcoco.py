# PLVL with a ResNet-101, which sees no language, instead of ViTDet-B: RefCOCO. Not in the paper.
# PLVL_R101: ResNet-101 weights in torchvision's form. Without them it starts from random weights.
import os

_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='LanguageFreeBackbone',
        backbone=dict(
            type='mmdet.ResNet',
            depth=101,
            strides=(1, 2, 2, 1),  # dilated in place of the last stride: 28 x 28 tokens
            dilations=(1, 1, 1, 2),
            out_indices=(3,),
            norm_eval=False,
            init_cfg=dict(type='Pretrained', checkpoint=os.environ['PLVL_R101'])
            if os.environ.get('PLVL_R101')
            else None,
        ),
    ),
    decoder=dict(visual_channels=2048),
)
