# VOC 2012: pseudo ground truth of the training pictures, whose names are relative to JPEGImages;
# the 1,449 pictures of segmentation val for testing.
_base_ = ['./pseudo_views.py']
data_root = '{{$DATA_ROOT:data}}/'
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img=data_root + 'VOCdevkit/VOC2012/JPEGImages/'),
        metainfo=dict(
            classes=(
                'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair',
                'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant',
                'sheep', 'sofa', 'train', 'tvmonitor',
            )
        ),
    )
)  # fmt: skip
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
]
test_evaluator = val_evaluator
