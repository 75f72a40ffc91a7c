# RVSE++ Table 1, row 7: RVSE (MLP) with Triplet, Flickr30K
_base_ = './rvse-mlp_selhn_1xb128-20e_f30k.py'
model = dict(loss=dict(_delete_=True, type='ITMTripletLoss', margin=0.2))
