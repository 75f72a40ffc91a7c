# RVSE++ Table 1, row 2, and Table 3, row 2: VSE (FC) with HN, Flickr30K
_base_ = './vse-fc_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2))
