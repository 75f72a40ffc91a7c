# Generated scenes (tools/misc/generate_scenes.py), 128 x 128 pixels: tags for training, boxes and
# masks for testing. Proposals come from tools/misc/generate_proposals.py.
data_root = '{{$SCENES_ROOT:data/scenes}}'
classes = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadStoredProposals', folder=data_root + '/proposals', max_proposals=250),
    dict(type='mmdet.Resize', scale=(128, 128)),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ProjectProposals', min_side=8),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
            'tags', 'homography_matrix', 'ori_proposals',
        ),
    ),
]  # fmt: skip
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='any_image')),
    dict(type='LoadStoredProposals', folder=data_root + '/proposals', max_proposals=250),
    dict(type='mmdet.Resize', scale=(128, 128)),
    dict(type='ProjectProposals', min_side=8),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances',
        ),
    ),
]  # fmt: skip
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='TagFileDataset',
        data_root=data_root,
        data_prefix=dict(img='images/'),
        ann_file='annotations/tags_train.json',
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
dataset = dict(
    type='COCOInstanceDataset',
    data_root=data_root,
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=classes),
    test_mode=True,
    pipeline=test_pipeline,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='annotations/instances_val.json', **dataset),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='annotations/instances_test.json', **dataset),
)
val_evaluator = [
    dict(type='InstanceCocoMetric', metric=['bbox', 'segm']),
    dict(type='TagMetric'),
]
test_evaluator = val_evaluator
