# RVSE++ Table 4, row 3, half: BFAN (equal) with AOQ as released, Flickr30K. Trained from scratch,
# decay by 10 at epoch 10.
_base_ = [
    './_base_/bfan_aoq.py',
    '../_base_/datasets/f30k_precomp_offline.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
param_scheduler = [dict(type='MultiStepLR', milestones=[10], gamma=0.1, by_epoch=True)]
