# RVSE++ Table 1, row 1, and Table 3, row 1: VSE (FC) with Triplet, Flickr30K
_base_ = './vse-fc_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='ITMTripletLoss', margin=0.2))
