# RVSE++ Table 1, row 6: VSE (MLP) with SelHN, Flickr30K
_base_ = './vse-fc_selhn_1xb128-20e_f30k.py'
model = dict(image_encoder=dict(type='RegionFCMLP'))
