# Florence-2 base, with the weights in the format of transformers.
# PLVL_FLORENCE2: a folder or a hub id.
import os

_base_ = './zero_shot.py'
model = dict(
    type='FlorenceGrounder',
    pretrained=os.environ.get('PLVL_FLORENCE2', 'florence-community/Florence-2-base'),
    task='<CAPTION_TO_PHRASE_GROUNDING>',
)
