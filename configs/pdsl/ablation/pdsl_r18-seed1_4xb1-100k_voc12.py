# PDSL Table 1: n_seed = 1
_base_ = '../pdsl_r18_4xb1-100k_voc12.py'
model = dict(roi_head=dict(num_seeds=1))
