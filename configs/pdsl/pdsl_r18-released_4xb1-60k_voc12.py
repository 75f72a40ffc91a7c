# PDSL as released, ResNet18-WS: model, 4,000 proposals, colours, schedule and training pictures
_base_ = [
    './_base_/pdsl_r18_released.py',
    '../_base_/datasets/voc2012_sbd_tags_released.py',
    '../_base_/schedules/pdsl_100k.py',
    './_base_/runtime_iters.py',
]
train_cfg = dict(max_iters=60000)
param_scheduler = [dict(type='MultiStepLR', milestones=[35000, 50000], gamma=0.1, by_epoch=False)]
