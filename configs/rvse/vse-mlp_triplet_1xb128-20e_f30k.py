# RVSE++ Table 1, row 4: VSE (MLP) with Triplet, Flickr30K
_base_ = './vse-mlp_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='ITMTripletLoss', margin=0.2))
