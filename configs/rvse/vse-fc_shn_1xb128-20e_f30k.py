# RVSE++ Table 3, row 3: VSE (FC) with SHN, Flickr30K
_base_ = './vse-fc_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='SemiHardNegativeLoss', margin=0.2))
