# PDSL Table 2 on one GPU: four pictures in a row make the step that four GPUs make at once
_base_ = './pdsl_r18_4xb1-100k_voc12.py'
optim_wrapper = dict(accumulative_counts=4)
train_cfg = dict(max_iters=400000, val_interval=40000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=2000, by_epoch=False),
    dict(type='MultiStepLR', milestones=[280000], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=40000))
