# MS COCO (PDSL, section 4.1): the tags of train2017 for training, val2017 for testing.
_base_ = ['./pdsl_views.py', './coco_val.py']
train_dataloader = dict(
    dataset=dict(
        type='COCOTagDataset',
        data_root=_base_.data_root,
        data_prefix=dict(img='train2017/'),
        ann_file='annotations/instances_train2017.json',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [_base_.val_evaluator, dict(type='TagMetric')]
test_evaluator = val_evaluator
