# RefCOCO in the refer layout, at 448 x 448 pixels (PLVL section 4.1). Validated on val; val, testA
# and testB are tested in one run.
# DATA_ROOT holds refcoco/, refcoco+/, refcocog/ (instances.json and refs(*).p each) and images/.
data_root = '{{$DATA_ROOT:data/}}'
meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
    'text', 'ref_id', 'sent_id', 'ann_id', 'kind', 'with_mask', 'subset',
)  # fmt: skip
train_pipeline = [
    # The pillow backend raises on truncated files; OpenCV fills them with grey.
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadGroundingAnnotations'),
    dict(type='RandomSafeCrop', prob=0.5, short_sides=(400, 500, 600), crop_range=(384, 600)),
    dict(type='RandomFlipWithWords', prob=0.5),
    # Long side 448 - 32 i, i = 0 ... 6, then stretched to the square.
    dict(
        type='RandomChoiceResize',
        scales=[(448 - 32 * i, 448 - 32 * i) for i in range(7)],
        resize_type='GroundingResize',
        keep_ratio=True,
    ),
    dict(type='GroundingResize', scale=(448, 448), keep_ratio=False),
    # Last, when the image is smallest: it is the slowest step.
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[dict(type='LookupColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)],
    ),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='GroundingResize', scale=(448, 448), keep_ratio=False),
    # After the resizing, so that the ground truth stays in pixels of the original image.
    dict(type='LoadGroundingAnnotations'),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
# The same as the released code does it, for plvl_vit-b-released_* configs: five words anywhere in
# the sentence forbid a crop, 'left' and 'right' are swapped inside of words too, PIL resizes with
# antialiasing, colours change before the flip, and the last stretch aligns the corners.
released_train_pipeline = [
    *train_pipeline[:2],
    dict(
        type='RandomSafeCrop',
        prob=0.5,
        short_sides=(400, 500, 600),
        crop_range=(384, 600),
        words=('left', 'right', 'top', 'bottom', 'middle'),
        whole_words=False,
        backend='pillow',
    ),
    dict(
        type='RandomChoiceResize',
        scales=[(448 - 32 * i, 448 - 32 * i) for i in range(7)],
        resize_type='GroundingResize',
        keep_ratio=True,
        backend='pillow',
    ),
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='mmpretrain.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                backend='pillow',
            )
        ],
    ),
    dict(type='RandomFlipWithWords', prob=0.5, whole_words=False),
    dict(type='GroundingResize', scale=(448, 448), keep_ratio=False, align_corners=True),
    train_pipeline[-1],
]
released_test_pipeline = [
    test_pipeline[0],
    dict(type='GroundingResize', scale=(448, 448), keep_ratio=True, backend='pillow'),
    dict(type='GroundingResize', scale=(448, 448), keep_ratio=False, align_corners=True),
    *test_pipeline[2:],
]
dataset = dict(
    type='ReferGroundingDataset',
    data_root=data_root,
    data_prefix=dict(img='images/train2014/'),
    ann_file='refcoco/instances.json',
    split_file='refcoco/refs(unc).p',
)
train_dataloader = dict(
    batch_size=20,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=False,  # True leaves an epoch's last batch out where it is not full, as released
    dataset=dict(split='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = dict(
    batch_size=20,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MixedGroundingDataset',
        pipeline=test_pipeline,
        datasets=[
            dict(split=split, subset=f'refcoco_{split}', test_mode=True, **dataset)
            for split in ('val', 'testA', 'testB')
        ],
    ),
)
val_evaluator = dict(type='GroundingMetric')
test_evaluator = val_evaluator
