# MS COCO as the released code uses it: its train2014 and valminusminival are train2017, its minival
# is val2017; with the pipeline of pdsl_views_released.py.
_base_ = ['./pdsl_views.py', './pdsl_views_released.py', './coco_val.py']
train_pipeline = _base_.released_train_pipeline
test_pipeline = [_base_.test_pipeline[0], _base_.released_proposals, *_base_.test_pipeline[2:]]
tta_pipeline = [_base_.tta_pipeline[0], _base_.released_proposals, *_base_.tta_pipeline[2:]]
train_dataloader = dict(
    dataset=dict(
        type='COCOTagDataset',
        data_root=_base_.data_root,
        data_prefix=dict(img='train2017/'),
        ann_file='annotations/instances_train2017.json',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [_base_.val_evaluator, dict(type='TagMetric')]
test_evaluator = val_evaluator
