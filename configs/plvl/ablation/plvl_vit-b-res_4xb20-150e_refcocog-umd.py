# PLVL Table 5, row 3: L_seg alone (RES), with the mask's 256 channels of the two-task head, as
# released
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(head=dict(groups=(('mask',),), group_channels=256))
default_hooks = dict(checkpoint=dict(save_best='grounding/res_miou'))
