# Mask captions of the same image in a batch, which are no negatives of it. Not in the paper.
_base_ = [
    '../_base_/rvse_mlp.py',
    '../../_base_/datasets/f30k_precomp.py',
    '../../_base_/schedules/rvse_adamw_20e.py',
    '../_base_/runtime.py',
]
model = dict(mask_repeats=True)
