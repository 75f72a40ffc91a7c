# RVSE++ Table 4, row 4, half: BFAN (prob) with Meta-SPN, Flickr30K
_base_ = [
    './_base_/bfan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_15e.py',
    './_base_/runtime.py',
]
model = dict(
    type='MetaWeightedMatcher',
    similarity=dict(focus='prob'),
    loss=dict(_delete_=True, type='MetaSPNLoss', margin=0.2),
)
