# PDSL section 4.3: ImageNet pre-training of ResNet101-WS
_base_ = './resnet-ws50_4xb32-120e_in1k.py'
model = dict(backbone=dict(depth=101))
