# PLVL Table 4, row 3: N=10, M=5; global and with language: 3,6,13,14,15
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(backbone=dict(global_indexes=(2, 5), language_indexes=(2, 5)))
