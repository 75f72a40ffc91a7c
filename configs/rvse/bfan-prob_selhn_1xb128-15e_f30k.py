# RVSE++ Table 7, row 10, and half of Table 2, row 4, Table 4, row 5, and Table 7, row 12: BFAN
# (prob) with SelHN, Flickr30K
_base_ = [
    './_base_/bfan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
model = dict(
    similarity=dict(focus='prob'), loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01)
)
