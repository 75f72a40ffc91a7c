# PLVL with ViTDet-L in place of ViTDet-B, whose global blocks end each quarter: RefCOCO. Not in the
# paper.
# PLVL_VITDET: weights of a ViT-L/16, such as timm/deit3_large_patch16_224.fb_in22k_ft_in1k, or of
# ViTDet-L, converted with --config and this file.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(
    backbone=dict(
        channels=1024,
        depth=24,
        num_heads=16,
        global_indexes=(5, 11, 17, 23),
        language_indexes=(5, 11, 17, 23),
        drop_path_rate=0.4,  # of ViTDet-L
    ),
    decoder=dict(visual_channels=1024),
)
