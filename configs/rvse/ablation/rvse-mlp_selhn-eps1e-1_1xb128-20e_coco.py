# RVSE++ Figure 6, epsilon 1e-1: RVSE (MLP), COCO (the paper sweeps Flickr30K)
_base_ = '../rvse-mlp_selhn_1xb128-20e_coco.py'
model = dict(loss=dict(eps=0.1))
