# PLVL with ViT-S in place of ViTDet-B: RefCOCO. Not in the paper.
# PLVL_VITDET: weights of a ViT-S/16, such as timm/deit3_small_patch16_224.fb_in22k_ft_in1k.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(
    backbone=dict(channels=384, num_heads=6),
    decoder=dict(visual_channels=384),
)
