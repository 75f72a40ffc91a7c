# PLVL with DINOv2-S in place of ViTDet-B: RefCOCO. Not in the paper.
# PLVL_DINOV2: folder or hub id of DINOv2-S, such as facebook/dinov2-small. Its patches of 14 pixels
# are resized to 16, and its 37 x 37 positions to 28 x 28.
import os

_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(
    backbone=dict(
        channels=384,
        num_heads=6,
        pos_embed_grid=28,
        final_norm=True,
        pretrained=os.environ.get('PLVL_DINOV2'),
    ),
    decoder=dict(visual_channels=384),
)
