# PDSL Table 2: ResNet50-WS, VOC 2012
_base_ = [
    './_base_/pdsl_r50.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
