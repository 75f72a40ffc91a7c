# PLVL Table 4, row 4: N=9, M=6; global and with language: 3,6,9,13,14,15
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(backbone=dict(global_indexes=(2, 5, 8), language_indexes=(2, 5, 8)))
