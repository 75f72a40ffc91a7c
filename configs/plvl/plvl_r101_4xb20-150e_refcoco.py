# PLVL with a ResNet-101, which sees no language, in place of ViTDet-B: RefCOCO. Not in the paper.
# PLVL_R101: ResNet-101 weights (torchvision's form); without, it starts at random.
import os

_base_ = './plvl_vit-b_4xb20-150e_refcoco.py'
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
