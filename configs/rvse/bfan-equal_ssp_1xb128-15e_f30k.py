# RVSE++ Table 4, row 2, half: BFAN (equal) with SSP, Flickr30K
_base_ = './bfan-equal_hn_1xb128-15e_f30k.py'
model = dict(loss=dict(_delete_=True, type='SSPLoss', margin=0.2))
