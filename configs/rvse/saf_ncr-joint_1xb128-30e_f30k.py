# Train two SAF networks with NCR that step together, Flickr30K. Not in the paper.
_base_ = [
    './_base_/ncr.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(matcher=dict(similarity=dict(type='SAFSimilarity')))
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]
