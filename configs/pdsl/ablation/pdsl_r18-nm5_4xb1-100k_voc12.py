# PDSL Table 1: n_m = 5
_base_ = [
    '../_base_/pdsl_r18.py',
    '../../_base_/datasets/voc2012_tags.py',
    '../../_base_/schedules/pdsl_sgd_100k.py',
    '../_base_/runtime_iters.py',
]
model = dict(roi_head=dict(mask_head=dict(num_specific=5)))
