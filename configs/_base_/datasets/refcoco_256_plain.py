# RefCOCO in the refer layout, at 256 x 256 pixels, without augmentation, for small models.
# DATA_ROOT holds refcoco/ (instances.json and refs(unc).p) and images/.
data_root = '{{$DATA_ROOT:data/}}'
meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
    'text', 'ref_id', 'sent_id', 'ann_id', 'kind', 'with_mask',
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadGroundingAnnotations'),
    dict(type='GroundingResize', scale=(256, 256), keep_ratio=False),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='GroundingResize', scale=(256, 256), keep_ratio=False),
    dict(type='LoadGroundingAnnotations'),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
dataset = dict(
    type='ReferGroundingDataset',
    data_root=data_root,
    data_prefix=dict(img='images/train2014/'),
    ann_file='refcoco/instances.json',
    split_file='refcoco/refs(unc).p',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='GroundingMetric')
test_evaluator = val_evaluator
