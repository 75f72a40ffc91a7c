# What the released code trains on: VOC's segmentation train and the 9,118 pictures of SBD that are
# not in VOC's segmentation sets, seen as pdsl_views_released.py says.
_base_ = ['./voc2012_tags.py', './pdsl_views_released.py']
data_root = '{{$DATA_ROOT:data}}/'
train_pipeline = _base_.released_train_pipeline
test_pipeline = [_base_.test_pipeline[0], _base_.released_proposals, *_base_.test_pipeline[2:]]
tta_pipeline = [_base_.tta_pipeline[0], _base_.released_proposals, *_base_.tta_pipeline[2:]]
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
