# PDSL as released, ResNet18-WS: model, 4,000 proposals, colors, schedule and training images
_base_ = [
    './_base_/pdsl_r18_released.py',
    '../_base_/datasets/voc2012_sbd_tags_released.py',
    '../_base_/schedules/pdsl_sgd_60k_released.py',
    './_base_/runtime_iters.py',
]
