# MM Grounding DINO with Swin-T, as published.
# PLVL_MM_GROUNDING_DINO: a folder or a hub id.
import os

_base_ = './zero_shot.py'
model = dict(
    type='ZeroShotGrounder',
    pretrained=os.environ.get(
        'PLVL_MM_GROUNDING_DINO', 'openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det'
    ),
    template='{}.',
    threshold=0.25,
)
