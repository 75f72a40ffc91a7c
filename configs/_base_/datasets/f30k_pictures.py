# Flickr30K's images, without features: DATA_ROOT holds flickr30k/dataset_flickr30k.json (Karpathy's
# split: 29,000, 1,000 and 1,000 images) and flickr30k/flickr30k-images/.
data_root = '{{$DATA_ROOT:data}}/flickr30k'
# The pillow backend raises on truncated files; OpenCV fills them with grey. Nothing is flipped:
# captions say what is left and right.
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=(256, 256), keep_ratio=False),
    dict(
        type='mmpretrain.PackInputs',
        algorithm_keys=['text', 'image_id', 'gt_text_id', 'gt_image_id'],
        meta_keys=['img_path'],
    ),
]
train_pipeline = [
    test_pipeline[0],
    dict(type='mmpretrain.RandomResizedCrop', scale=256, crop_ratio_range=(0.6, 1.0)),
    test_pipeline[2],
]
dataset = dict(
    type='KarpathyMatchingDataset',
    ann_file='dataset_flickr30k.json',
    data_root=data_root,
    data_prefix=dict(img='flickr30k-images/'),
    max_captions=5,
)
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='stack_pairs'),
    dataset=dict(split='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='stack_pairs'),
    # the first 1,000 images of val, as of the precomputed features
    dataset=dict(split='val', max_images=1000, pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='stack_pairs'),
    dataset=dict(split='test', pipeline=test_pipeline, test_mode=True, **dataset),
)
val_evaluator = dict(type='MatchingMetric')
test_evaluator = val_evaluator
val_cfg = dict(type='MatchingValLoop')
test_cfg = dict(type='MatchingTestLoop')
