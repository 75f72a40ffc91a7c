# RVSE++ Table 1, row 9, and Figure 6, epsilon 0.01: RVSE (MLP) with SelHN, Flickr30K
_base_ = [
    './_base_/rvse_mlp.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
