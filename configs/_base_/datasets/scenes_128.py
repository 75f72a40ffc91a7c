# Synthetic scenes (tools/misc/generate_scenes.py), 128 x 128 pixels.
data_root = '{{$SCENES_ROOT:data/scenes}}'
meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
    'text', 'ref_id', 'sent_id', 'ann_id', 'kind', 'with_mask',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadGroundingAnnotations'),
    dict(type='RandomFlipWithWords', prob=0.5),
    dict(type='GroundingResize', scale=(128, 128), keep_ratio=False),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='GroundingResize', scale=(128, 128), keep_ratio=False),
    dict(type='LoadGroundingAnnotations'),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
dataset = dict(
    type='ReferGroundingDataset',
    data_root=data_root,
    data_prefix=dict(img='images/'),
    ann_file='scenes/instances.json',
    split_file='scenes/refs(scenes).p',
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=test_pipeline, test_mode=True, **dataset),
)
val_evaluator = dict(type='GroundingMetric', group_by='kind')
test_evaluator = val_evaluator
