# Flickr30K with precomputed BUTD regions, 36 per image: DATA_ROOT holds f30k_precomp/ with
# {train,dev,test}_ims.npy, _caps.txt and _ids.txt (29,000, 1,000 and 1,000 images).
data_root = '{{$DATA_ROOT:data}}/f30k_precomp'
test_pipeline = [
    dict(type='LoadRegions'),
    dict(
        type='mmpretrain.PackInputs',
        input_key='regions',
        algorithm_keys=['text', 'text_id', 'image_id', 'gt_text_id', 'gt_image_id'],
    ),
]
train_pipeline = test_pipeline
dataset = dict(type='PrecompMatchingDataset', data_root=data_root)
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
    # a dev file of 1,014 images is cut to the published 1,000
    dataset=dict(split='dev', max_images=1000, pipeline=test_pipeline, test_mode=True, **dataset),
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
