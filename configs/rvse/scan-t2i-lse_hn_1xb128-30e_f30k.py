# SCAN t2i LSE, Flickr30K. Not in the paper.
_base_ = [
    './_base_/scan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(similarity=dict(aggregation='LSE'))
