# RVSE++ Table 4, row 3, half: BFAN (prob) with AOQ as released, Flickr30K
_base_ = [
    './_base_/bfan_aoq.py',
    '../_base_/datasets/f30k_precomp_offline.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
model = dict(similarity=dict(focus='prob'))
param_scheduler = [dict(type='MultiStepLR', milestones=[10], gamma=0.1, by_epoch=True)]
