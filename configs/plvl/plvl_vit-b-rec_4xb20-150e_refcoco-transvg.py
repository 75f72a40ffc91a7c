# PLVL Table 1, traditional setting: RefCOCO in TransVG's .pth files, which have no masks, so
# only boxes are learned.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_pth_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
model = dict(head=dict(groups=(('center',), ('offset', 'size'))))
default_hooks = dict(checkpoint=dict(save_best='grounding/rec_acc50'))
