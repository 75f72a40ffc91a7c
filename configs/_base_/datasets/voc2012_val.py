# The 1,449 images of VOC 2012's segmentation val, for testing. The data bases that derive from this
# one add the pipeline.
data_root = '{{$DATA_ROOT:data}}/'
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VOCInstanceDataset',
        data_root=data_root + 'VOCdevkit/',
        data_prefix=dict(sub_data_root='VOC2012/'),
        ann_file='VOC2012/ImageSets/Segmentation/val.txt',
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='InstanceCocoMetric', metric=['bbox', 'segm'], use_ignored=True),
    dict(type='mmdet.VOCMetric', eval_mode='area', prefix='voc12'),
    dict(type='mmdet.VOCMetric', eval_mode='11points', prefix='voc07'),
    dict(type='TagMetric'),
]
test_evaluator = val_evaluator
