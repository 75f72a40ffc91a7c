# RVSE++ Table 1, row 5: VSE (MLP) with HN, Flickr30K
_base_ = [
    './_base_/vse_mlp.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2))
