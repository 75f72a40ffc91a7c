# Grounding DINO with Swin-T, as published.
# PLVL_GROUNDING_DINO: a folder or a hub id.
import os

_base_ = './zero_shot.py'
model = dict(
    type='ZeroShotGrounder',
    pretrained=os.environ.get('PLVL_GROUNDING_DINO', 'IDEA-Research/grounding-dino-tiny'),
    template='{}.',
    threshold=0.25,
)
