# RVSE++ Table 1, row 6: VSE (MLP) with SelHN, Flickr30K
_base_ = [
    './_base_/vse_mlp.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
