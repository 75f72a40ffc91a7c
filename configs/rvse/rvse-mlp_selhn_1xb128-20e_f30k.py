# RVSE++ Table 1, row 9, and Figure 6, epsilon 0.01: RVSE (MLP) with SelHN, Flickr30K
_base_ = './vse-fc_selhn_1xb128-20e_f30k.py'
model = dict(image_encoder=dict(type='RegionResidualMLP'))
