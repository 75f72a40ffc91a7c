# Images with captions in COCO's json, 128 x 128 pixels, for small models. A sample of the training
# data is an image, which is encoded once for all its captions.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=False),
    dict(
        type='mmpretrain.PackInputs',
        algorithm_keys=['text', 'image_id', 'gt_text_id', 'gt_image_id'],
        meta_keys=['img_path'],
    ),
]
train_pipeline = test_pipeline
train_dataloader = dict(
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='stack_pairs'),
    dataset=dict(type='COCOCaptionsMatchingDataset', all_captions=True, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='stack_pairs'),
    dataset=dict(type='COCOCaptionsMatchingDataset', pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='MatchingMetric')
test_evaluator = val_evaluator
