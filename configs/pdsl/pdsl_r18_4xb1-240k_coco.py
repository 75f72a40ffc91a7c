# PDSL Table 3: ResNet18-WS, MS COCO; boxes are not moved (as released)
_base_ = [
    './_base_/pdsl_r18.py',
    '../_base_/datasets/coco_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=80, with_reg=False), mask_head=dict(num_classes=80))
)
# The paper names no steps; these are the released code's.
train_cfg = dict(max_iters=240000, val_interval=20000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=500, by_epoch=False),
    dict(type='MultiStepLR', milestones=[140000, 200000], gamma=0.1, by_epoch=False),
]
