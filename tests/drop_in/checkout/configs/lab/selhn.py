# A model of mmpretrain with SelHN for its loss: each channel of one view against all of the other.
_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(
    imports=['projects.rvse.register', 'projects.lab'], allow_failed_imports=False
)
custom_hooks = [dict(type='LabWhatRanHook')]
model = dict(
    type='BarlowTwins',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=[120] * 3, std=[60] * 3, to_rgb=True
    ),
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, norm_eval=False),
    neck=dict(
        type='NonLinearNeck',
        in_channels=64,
        hid_channels=32,
        out_channels=16,
        num_layers=2,
        with_avg_pool=True,
    ),
    head=dict(type='LatentCrossCorrelationHead', in_channels=16, loss=dict(type='SelHNLoss')),
)
view = [dict(type='RandomResizedCrop', scale=64), dict(type='RandomFlip', prob=0.5)]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='{{$SCENES_ROOT:data/scenes}}/images',
        with_label=False,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='MultiView', num_views=2, transforms=[view]),
            dict(type='PackInputs'),
        ],
    ),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(logger=dict(interval=1))
