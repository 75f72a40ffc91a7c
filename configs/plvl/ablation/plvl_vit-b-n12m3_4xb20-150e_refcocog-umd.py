# PLVL Table 4, row 1: N=12, M=3; global and with language: 13,14,15
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
model = dict(backbone=dict(global_indexes=(), language_indexes=()))
