# PDSL section 4.3: ImageNet pre-training of ResNet18-WS, as released
_base_ = [
    '../_base_/resnet-ws18.py',
    '../../_base_/datasets/imagenet_ws_224.py',
    '../../_base_/schedules/pdsl_pretrain_120e.py',
    '../_base_/runtime_pretrain.py',
]
