# SelHN normalized as in the released code: Triplet's sum is divided by the number of negatives,
# B - 1, where Eq. 12 has B. Not in the paper.
_base_ = [
    '../_base_/rvse_mlp.py',
    '../../_base_/datasets/f30k_precomp.py',
    '../../_base_/schedules/rvse_adamw_20e.py',
    '../_base_/runtime.py',
]
model = dict(loss=dict(normalizer='negatives'))
