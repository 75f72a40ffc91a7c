# SelHN as the released code divides it: Triplet's sum by the number of negatives, B - 1, where Eq.
# 12 has B. Not in the paper.
_base_ = '../rvse-mlp_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(normalizer='negatives'))
