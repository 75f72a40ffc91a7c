# PDSL section 4.3: ImageNet pre-training of ResNet101-WS, as released (lr 0.05 for 128 images)
_base_ = [
    '../_base_/resnet-ws18.py',
    '../../_base_/datasets/imagenet_ws_224.py',
    '../../_base_/schedules/pdsl_pretrain_120e.py',
    '../_base_/runtime_pretrain.py',
]
model = dict(backbone=dict(depth=101), neck=dict(in_channels=2048, fc_channels=(2048, 4096)))
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=0.05))
auto_scale_lr = dict(base_batch_size=128)
