# PDSL Table 2 on one GPU: four images in a row make the step that four GPUs take at once
_base_ = [
    './_base_/pdsl_r18.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
optim_wrapper = dict(accumulative_counts=4)
train_cfg = dict(max_iters=400000, val_interval=40000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=2000, by_epoch=False),
    dict(type='MultiStepLR', milestones=[280000], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=40000))
