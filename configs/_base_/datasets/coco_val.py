# MS COCO's val2017, for testing. The data bases that derive from this one add the
# pipeline.
data_root = '{{$DATA_ROOT:data}}/coco/'
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='COCOInstanceDataset',
        data_root=data_root,
        data_prefix=dict(img='val2017/'),
        ann_file='annotations/instances_val2017.json',
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='InstanceCocoMetric',
    metric=['bbox', 'segm'],
    ann_file=data_root + 'annotations/instances_val2017.json',
)
test_evaluator = val_evaluator
