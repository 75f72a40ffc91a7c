# PDSL's pipelines (section 4.3): MCG's proposals, 2,000 per image; scales, flips, crops and colors
# in training; 688 pixels in testing, and 8 scales with flips in test-time augmentation. The longest
# sides, 2,000 pixels in training and 4,000 in testing, are the released code's.
# PDSL_PROPOSALS: folder of the proposals, written by tools/dataset_converters/proposals.py or, for
# Selective Search, by tools/misc/generate_proposals.py.
proposals = dict(
    type='LoadStoredProposals', folder='{{$PDSL_PROPOSALS:data/proposals}}', max_proposals=2000
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    proposals,
    dict(type='RandomExposureSaturation', factor=1.5),
    dict(
        type='RandomChoiceResize',
        scales=[(2000, side) for side in range(480, 1217, 32)],
        keep_ratio=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.RandomCrop', crop_size=(0.9, 0.9), crop_type='relative'),
    dict(type='ProjectProposals'),
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
    proposals,
    dict(type='mmdet.Resize', scale=(4000, 688), keep_ratio=True),
    dict(type='ProjectProposals'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='any_image')),
    proposals,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='mmdet.Resize', scale=(4000, side), keep_ratio=True)
                for side in (480, 576, 672, 768, 864, 960, 1056, 1152)
            ],
            [dict(type='mmdet.RandomFlip', prob=prob) for prob in (0.0, 1.0)],
            [dict(type='ProjectProposals', min_side=0, deduplicate=False)],
            [dict(type='mmdet.LoadAnnotations', with_bbox=True)],
            [
                dict(
                    type='mmdet.PackDetInputs',
                    meta_keys=(
                        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                        'flip_direction', 'instances',
                    ),
                )
            ],
        ],
    ),
]  # fmt: skip
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
