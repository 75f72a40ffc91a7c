# OWLv2 with ViT-B/16, as published.
# PLVL_OWLV2: a folder or a hub id.
import os

_base_ = './zero_shot.py'
model = dict(
    type='ZeroShotGrounder',
    pretrained=os.environ.get('PLVL_OWLV2', 'google/owlv2-base-patch16-ensemble'),
    threshold=0.1,
)
