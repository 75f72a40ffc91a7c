# Synthetic scenes (tools/misc/generate_scenes.py) with five captions each, 128 x 128 pixels.
data_root = '{{$SCENES_ROOT:data/scenes}}'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # The scenes have this size; in a batch with others an image would be padded.
    dict(type='Resize', scale=(128, 128), keep_ratio=False),
    dict(
        type='mmpretrain.PackInputs',
        algorithm_keys=['text', 'image_id', 'gt_text_id', 'gt_image_id'],
        meta_keys=['img_path'],
    ),
]
train_pipeline = test_pipeline
dataset = dict(
    type='COCOCaptionsMatchingDataset',
    data_root=data_root,
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    # one sample for each image, which is encoded once for its five captions
    dataset=dict(
        ann_file='annotations/captions_train.json',
        all_captions=True,
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/captions_val.json',
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/captions_test.json',
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
val_evaluator = dict(type='MatchingMetric')
test_evaluator = val_evaluator
