# PLVL with Swin-B, which sees no language, instead of ViTDet-B: RefCOCO. Not in the paper.
# PLVL_SWIN: Swin-B weights (window 7) in their original form. Without them it starts from random
# weights.
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
            type='mmdet.SwinTransformer',
            embed_dims=128,
            depths=(2, 2, 18, 2),
            num_heads=(4, 8, 16, 32),
            window_size=7,
            drop_path_rate=0.1,
            out_indices=(3,),
            convert_weights=True,
            init_cfg=dict(type='Pretrained', checkpoint=os.environ['PLVL_SWIN'])
            if os.environ.get('PLVL_SWIN')
            else None,
        ),
    ),
    decoder=dict(visual_channels=1024),
    head=dict(patch_size=32),  # the stride of its last stage
)
