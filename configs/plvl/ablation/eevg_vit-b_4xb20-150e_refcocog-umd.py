# PLVL Table 7, row 1: EEVG
_base_ = [
    '../_base_/eevg_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
