# RVSE++ Table 7, row 4, and half of Table 2, row 2, and Table 7, row 6: SCAN t2i AVG with SelHN,
# Flickr30K
_base_ = [
    './_base_/scan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01))
