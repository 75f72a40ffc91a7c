# RVSE++ Figure 6, epsilon 0.01: RVSE (MLP) with SelHN, COCO (the paper sweeps Flickr30K)
_base_ = './vse-fc_selhn_1xb128-20e_coco.py'
model = dict(image_encoder=dict(type='RegionResidualMLP'))
