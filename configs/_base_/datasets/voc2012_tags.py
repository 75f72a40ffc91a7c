# VOC 2012 (PDSL, section 4.1): main trainval without the pictures of segmentation val, tags alone,
# for training; the 1,449 of segmentation val for testing.
_base_ = ['./pdsl_views.py']
data_root = '{{$DATA_ROOT:data}}/'
train_dataloader = dict(
    dataset=dict(
        type='VOCTagDataset',
        data_root=data_root + 'VOCdevkit/VOC2012/',
        ann_file='ImageSets/Main/trainval.txt',
        exclude='ImageSets/Segmentation/val.txt',
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='VOCInstanceDataset',
        data_root=data_root + 'VOCdevkit/',
        data_prefix=dict(sub_data_root='VOC2012/'),
        ann_file='VOC2012/ImageSets/Segmentation/val.txt',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
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
