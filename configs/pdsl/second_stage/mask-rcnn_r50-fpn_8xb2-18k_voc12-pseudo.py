# PDSL, second stage as released: Mask R-CNN on pseudo ground truth, VOC 2012
_base_ = [
    '../_base_/mask-rcnn_r50.py',
    '../../_base_/datasets/voc2012_pseudo.py',
    '../../_base_/schedules/pdsl_second-stage_90k.py',
    '../_base_/runtime_iters.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=20), mask_head=dict(num_classes=20)))
train_cfg = dict(max_iters=18000, val_interval=6000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=200, by_epoch=False),
    dict(type='MultiStepLR', milestones=[12000, 16000], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=6000))
