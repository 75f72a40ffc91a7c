# PDSL Table 1: n_m = 0
_base_ = '../pdsl_r18_4xb1-100k_voc12.py'
model = dict(roi_head=dict(mask_head=dict(num_specific=0)))
