# RVSE++ Table 7, row 1: SCAN i2t AVG, Flickr30K
_base_ = [
    './_base_/scan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(similarity=dict(direction='i2t'))
