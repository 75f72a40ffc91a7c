# MS COCO: pseudo ground truth of train2017, whose names are relative to it; val2017 for testing.
_base_ = ['./pseudo_views.py']
data_root = '{{$DATA_ROOT:data}}/coco/'
train_dataloader = dict(dataset=dict(data_prefix=dict(img=data_root + 'train2017/')))
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
val_evaluator = dict(
    type='InstanceCocoMetric',
    metric=['bbox', 'segm'],
    ann_file=data_root + 'annotations/instances_val2017.json',
)
test_evaluator = val_evaluator
