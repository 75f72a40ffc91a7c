# PDSL as released, ResNet18-WS, MS COCO: boxes are not moved
_base_ = [
    './_base_/pdsl_r18_released.py',
    '../_base_/datasets/coco_tags_released.py',
    '../_base_/schedules/pdsl_sgd_60k_released.py',
    './_base_/runtime_iters.py',
]
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=80, with_reg=False), mask_head=dict(num_classes=80))
)
train_cfg = dict(max_iters=240000, val_interval=20000)
param_scheduler = [dict(type='MultiStepLR', milestones=[140000, 200000], gamma=0.1, by_epoch=False)]
