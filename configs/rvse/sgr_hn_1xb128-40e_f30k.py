# RVSE++ Table 7, row 15, and half of Table 2, row 5, Table 4, row 6, Table 5, row 8, and Table 7,
# row 17: SGR of SGRAF, Flickr30K
_base_ = [
    './_base_/sgr.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_40e.py',
    './_base_/runtime.py',
]
