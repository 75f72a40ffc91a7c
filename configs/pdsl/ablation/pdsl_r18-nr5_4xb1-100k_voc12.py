# PDSL Table 1: n_r = 5
_base_ = '../pdsl_r18_4xb1-100k_voc12.py'
model = dict(roi_head=dict(bbox_head=dict(num_refinements=5)))
