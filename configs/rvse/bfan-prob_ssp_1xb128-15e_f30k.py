# RVSE++ Table 4, row 2, half: BFAN (prob) with SSP, Flickr30K
_base_ = [
    './_base_/bfan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
model = dict(similarity=dict(focus='prob'), loss=dict(_delete_=True, type='SSPLoss', margin=0.2))
