# PLVL Table 4, row 4, its index list alone: language in 3,6,9,13,14,15;
# block 12 stays global, as the released code has them
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(backbone=dict(language_indexes=(2, 5, 8)))
