# PLVL Tables 1 and 2, traditional setting: RefCOCOg, umd split. The same is Table 4, row 5 (N=8,
# M=7), Table 5, row 1 (both tasks), and Table 6, row 2 ({mask, center} {offset, size}).
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcocog-umd_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
