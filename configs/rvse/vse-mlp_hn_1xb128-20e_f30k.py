# RVSE++ Table 1, row 5: VSE (MLP) with HN, Flickr30K
_base_ = './vse-mlp_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2))
