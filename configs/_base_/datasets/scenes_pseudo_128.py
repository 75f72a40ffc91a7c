# Generated scenes, 128 x 128 pixels: boxes and masks that a model has found on the training
# images (tools/misc/export_pseudo_labels.py) for training, true ones for testing.
data_root = '{{$SCENES_ROOT:data/scenes}}'
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='any_image')),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.Resize', scale=(128, 128)),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='any_image')),
    dict(type='mmdet.Resize', scale=(128, 128)),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
dataset = dict(
    type='COCOInstanceDataset',
    data_root=data_root,
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=('circle', 'square', 'triangle', 'star', 'cross', 'heart')),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        **dataset,
        ann_file='annotations/pseudo_train.json',
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='annotations/instances_test.json',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdet.CocoMetric', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
