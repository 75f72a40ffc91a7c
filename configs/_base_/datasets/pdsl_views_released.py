# The released code's training pipeline, where it differs from pdsl_views.py: up to 4,000 proposals,
# each side of the crop 0.9 to 1 times the image's, colors blended in BGR after the crop.
released_proposals = dict(
    type='LoadStoredProposals', folder='{{$PDSL_PROPOSALS:data/proposals}}', max_proposals=4000
)
released_train_pipeline = [
    dict(type='LoadImageFromFile'),
    released_proposals,
    dict(
        type='RandomChoiceResize',
        scales=[(2000, side) for side in range(480, 1217, 32)],
        keep_ratio=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.RandomCrop', crop_size=(0.9, 0.9), crop_type='relative_range'),
    dict(type='RandomExposureSaturation', factor=1.5, space='blend'),
    dict(type='ProjectProposals'),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
            'tags', 'homography_matrix', 'ori_proposals',
        ),
    ),
]  # fmt: skip
