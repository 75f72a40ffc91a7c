# VOC 2012: pseudo ground truth of the training images, whose names are relative to JPEGImages;
# segmentation val for testing.
_base_ = ['./pseudo_views.py', './voc2012_val.py']
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img=_base_.data_root + 'VOCdevkit/VOC2012/JPEGImages/'),
        metainfo=dict(
            classes=(
                'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair',
                'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant',
                'sheep', 'sofa', 'train', 'tvmonitor',
            )
        ),
    )
)  # fmt: skip
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
val_evaluator = _base_.val_evaluator[:2]  # Mask R-CNN predicts no tags
test_evaluator = val_evaluator
