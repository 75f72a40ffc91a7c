# RVSE++ Table 1, row 3, and Table 3, row 5: VSE (FC) with SelHN, Flickr30K
_base_ = [
    './_base_/vse_fc.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
