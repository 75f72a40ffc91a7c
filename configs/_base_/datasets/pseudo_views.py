# The pipelines of the second stage of weak supervision (as released): short sides of 480 to 800
# pixels in training, 800 in testing.
# PSEUDO_LABELS: the file that tools/misc/export_pseudo_labels.py wrote.
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='any_image')),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, side) for side in range(480, 801, 32)],
        keep_ratio=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='any_image')),
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'),
    dataset=dict(
        type='COCOInstanceDataset',
        ann_file='{{$PSEUDO_LABELS:data/pseudo_train.json}}',
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
