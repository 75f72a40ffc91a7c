# PDSL, second stage on MS COCO, which was not released: mmdet's and detectron2's schedule 1x
_base_ = ['../_base_/mask_rcnn_r50_pseudo.py', '../../_base_/datasets/coco_pseudo.py']
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=10000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=1000, by_epoch=False),
    dict(type='MultiStepLR', milestones=[60000, 80000], gamma=0.1, by_epoch=False),
]
