# RVSE++ Table 3, row 4: VSE (FC) with SCT, Flickr30K
_base_ = [
    './_base_/vse_fc.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(loss=dict(_delete_=True, type='SCTLoss', margin=0.2))
