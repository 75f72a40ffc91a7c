# A few images of COCO with their captions, 128 x 128 pixels: COCO_SAMPLE_ROOT holds
# annotations/captions_{train,val}2017.json, train2017/ and val2017/, as COCO itself does.
data_root = '{{$COCO_SAMPLE_ROOT:data/coco_sample/}}'
test_pipeline = [
    # The pillow backend raises on truncated files; OpenCV fills them with grey.
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=(128, 128), keep_ratio=False),
    dict(
        type='mmpretrain.PackInputs',
        algorithm_keys=['text', 'image_id', 'gt_text_id', 'gt_image_id'],
        meta_keys=['img_path'],
    ),
]
train_pipeline = test_pipeline
dataset = dict(type='COCOCaptionsMatchingDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=40,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/captions_train2017.json',
        data_prefix=dict(img='train2017/'),
        all_captions=True,
        pipeline=train_pipeline,
        **dataset,
    ),
)
# The training images: the question is whether the model can fit them.
val_dataloader = dict(
    batch_size=40,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/captions_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
test_dataloader = dict(
    batch_size=40,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/captions_val2017.json',
        data_prefix=dict(img='val2017/'),
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
val_evaluator = dict(type='MatchingMetric')
test_evaluator = val_evaluator
