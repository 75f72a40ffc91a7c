# PDSL section 4.3: ImageNet pre-training of ResNet18-WS, as released (lr 0.1 for 256 pictures)
_base_ = ['../../_base_/datasets/imagenet_ws_224.py', '../../_base_/default_runtime.py']
default_scope = 'mmpretrain'
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='ResNetWS', depth=18, pools=(2, 2, 0, 0), dilations=(1, 1, 1, 1), norm_eval=False
    ),
    neck=dict(type='DANNeck', in_channels=512, fc_channels=(4096, 4096)),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=4096,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
)
param_scheduler = [dict(type='MultiStepLR', milestones=[30, 60, 90], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=120, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
auto_scale_lr = dict(enable=False, base_batch_size=256)
