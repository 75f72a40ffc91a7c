# RVSE++ Table 7, row 14, and half of Table 2, row 6, Table 4, row 8, and Table 7, row 18: SAF of
# SGRAF with SelHN, Flickr30K
_base_ = [
    './_base_/saf.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01))
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]
