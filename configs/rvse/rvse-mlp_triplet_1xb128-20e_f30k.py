# RVSE++ Table 1, row 7: RVSE (MLP) with Triplet, Flickr30K
_base_ = [
    './_base_/rvse_mlp.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(loss=dict(_delete_=True, type='ITMTripletLoss', margin=0.2))
