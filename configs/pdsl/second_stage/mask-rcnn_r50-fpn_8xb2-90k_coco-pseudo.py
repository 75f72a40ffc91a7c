# PDSL, second stage on MS COCO, which was not released
_base_ = [
    '../_base_/mask-rcnn_r50.py',
    '../../_base_/datasets/coco_pseudo.py',
    '../../_base_/schedules/pdsl_second-stage_90k.py',
    '../_base_/runtime_iters.py',
]
