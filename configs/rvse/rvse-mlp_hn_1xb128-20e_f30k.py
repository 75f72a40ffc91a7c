# RVSE++ Table 1, row 8: RVSE (MLP) with HN, Flickr30K
_base_ = './rvse-mlp_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2))
