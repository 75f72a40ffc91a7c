# RVSE++ Table 7, row 3, and half of Tables 2 and 5, row 1, and Table 7, row 5: SCAN t2i AVG,
# Flickr30K
_base_ = [
    './_base_/scan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
