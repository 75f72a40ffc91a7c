# PDSL as released, ResNet101-WS: boxes are learnt without weights
_base_ = './pdsl_r50-released_4xb1-60k_voc12.py'
model = dict(backbone=dict(depth=101), roi_head=dict(loss_refine=dict(weighted_regression=False)))
