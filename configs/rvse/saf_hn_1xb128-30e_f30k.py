# RVSE++ Table 7, row 13, and half of Table 2, row 5, Table 4, row 6, Table 5, row 8, and Table 7,
# row 17: SAF of SGRAF, Flickr30K
_base_ = [
    './_base_/saf.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]
