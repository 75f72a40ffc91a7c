# PLVL Table 5, row 2: L_det alone (REC)
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(head=dict(groups=(('center',), ('offset', 'size'))))
default_hooks = dict(checkpoint=dict(save_best='grounding/rec_acc50'))
