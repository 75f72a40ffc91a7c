# Captions of one picture that meet in a batch are no negatives of it. Not in the paper.
_base_ = '../rvse-mlp_selhn_1xb128-20e_f30k.py'
model = dict(mask_repeats=True)
