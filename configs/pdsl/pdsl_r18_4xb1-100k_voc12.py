# PDSL Table 2 (and Table 1's default): ResNet18-WS, VOC 2012
_base_ = [
    './_base_/pdsl_r18.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
