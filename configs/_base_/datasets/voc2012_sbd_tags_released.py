# VOC 2012 as the released code uses it: trains on VOC's segmentation train and on the 9,118 images
# of SBD that are not in VOC's segmentation sets, with the pipeline of pdsl_views_released.py.
_base_ = ['./pdsl_views.py', './pdsl_views_released.py', './voc2012_val.py']
train_pipeline = _base_.released_train_pipeline
test_pipeline = [_base_.test_pipeline[0], _base_.released_proposals, *_base_.test_pipeline[2:]]
tta_pipeline = [_base_.tta_pipeline[0], _base_.released_proposals, *_base_.tta_pipeline[2:]]
train_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='VOCTagDataset',
                data_root=_base_.data_root + 'VOCdevkit/VOC2012/',
                ann_file='ImageSets/Segmentation/train.txt',
                pipeline=train_pipeline,
            ),
            dict(
                type='SBDTagDataset',
                data_root=_base_.data_root + 'SBD/',
                ann_file='train_9118.txt',
                pipeline=train_pipeline,
            ),
        ],
    )
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
