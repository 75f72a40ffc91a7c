# MS COCO (PDSL, section 4.1): tags of train2017 for training, val2017 for testing.
_base_ = ['./pdsl_views.py']
data_root = '{{$DATA_ROOT:data}}/coco/'
train_dataloader = dict(
    dataset=dict(
        type='COCOTagDataset',
        data_root=data_root,
        data_prefix=dict(img='train2017/'),
        ann_file='annotations/instances_train2017.json',
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='COCOInstanceDataset',
        data_root=data_root,
        data_prefix=dict(img='val2017/'),
        ann_file='annotations/instances_val2017.json',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='InstanceCocoMetric',
        metric=['bbox', 'segm'],
        ann_file=data_root + 'annotations/instances_val2017.json',
    ),
    dict(type='TagMetric'),
]
test_evaluator = val_evaluator
