# What the released code trains on: VOC's segmentation train and the 9,118 pictures of SBD that are
# not in VOC's segmentation sets, up to 4,000 proposals, colours blended on BGR.
_base_ = ['./voc2012_tags.py']
data_root = '{{$DATA_ROOT:data}}/'
proposals = dict(
    type='LoadStoredProposals', folder='{{$PDSL_PROPOSALS:data/proposals}}', max_proposals=4000
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    proposals,
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
test_pipeline = [_base_.test_pipeline[0], proposals, *_base_.test_pipeline[2:]]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='VOCTagDataset',
                data_root=data_root + 'VOCdevkit/VOC2012/',
                ann_file='ImageSets/Segmentation/train.txt',
                pipeline=train_pipeline,
            ),
            dict(
                type='SBDTagDataset',
                data_root=data_root + 'SBD/',
                ann_file='train_9118.txt',
                pipeline=train_pipeline,
            ),
        ],
    )
)
