# PDSL Table 2: ResNet101-WS, VOC 2012
_base_ = './pdsl_r50_4xb1-100k_voc12.py'
model = dict(backbone=dict(depth=101))
