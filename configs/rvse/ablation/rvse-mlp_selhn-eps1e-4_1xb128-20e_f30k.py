# RVSE++ Figure 6, epsilon 1e-4: RVSE (MLP), Flickr30K
_base_ = [
    '../_base_/rvse_mlp.py',
    '../../_base_/datasets/f30k_precomp.py',
    '../../_base_/schedules/rvse_adamw_20e.py',
    '../_base_/runtime.py',
]
model = dict(loss=dict(eps=1e-4))
