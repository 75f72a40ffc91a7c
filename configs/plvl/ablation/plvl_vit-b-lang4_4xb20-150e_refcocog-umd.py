# PLVL Table 4, row 2, its index list alone: language in 3,13,14,15;
# blocks 6, 9 and 12 stay global, as the released code has them
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(backbone=dict(language_indexes=(2,)))
