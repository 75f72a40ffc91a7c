# PLVL on Flickr30K Entities, boxes only, as the data has no masks. Not in the paper.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/flickr30k_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(head=dict(groups=(('center',), ('offset', 'size'))))
default_hooks = dict(checkpoint=dict(save_best='grounding/rec_acc50'))
