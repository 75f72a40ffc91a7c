# RVSE++ Table 7, row 7, and half of Table 2, row 3, Table 4, row 1, Table 5, row 3, and Table 7,
# row 11: BFAN (equal), Flickr30K
_base_ = [
    './_base_/bfan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
