# mmdet's own detector on our backbone.
_base_ = '../_base_/default_runtime.py'
custom_imports = dict(
    imports=['projects.pdsl.register', 'projects.lab'], allow_failed_imports=False
)
custom_hooks = [dict(type='LabWhatRanHook')]
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[120] * 3, std=[60] * 3, bgr_to_rgb=True
    ),
    backbone=dict(
        type='ResNetWS',
        depth=18,
        stem_channels=8,
        base_channels=8,
        pools=(2, 2, 2, 0),
        dilations=(1, 1, 1, 1),
        out_indices=(1, 2, 3),
        outputs_before_pool=True,
        norm_eval=False,
    ),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=16, num_outs=3),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=6,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=2,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32],
        ),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=100, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20
    ),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64)),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(
    type='CocoDataset',
    data_root='{{$SCENES_ROOT:data/scenes}}',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=('circle', 'square', 'triangle', 'star', 'cross', 'heart')),
    pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(ann_file='annotations/instances_train.json', **dataset),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='annotations/instances_val.json', test_mode=True, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric',
    metric='bbox',
    ann_file='{{$SCENES_ROOT:data/scenes}}/annotations/instances_val.json',
)
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
default_hooks = dict(logger=dict(interval=1))
