# VOC 2012 (PDSL, section 4.1): the tags of main trainval without the images of segmentation val for
# training; segmentation val for testing.
_base_ = ['./pdsl_views.py', './voc2012_val.py']
train_dataloader = dict(
    dataset=dict(
        type='VOCTagDataset',
        data_root=_base_.data_root + 'VOCdevkit/VOC2012/',
        ann_file='ImageSets/Main/trainval.txt',
        exclude='ImageSets/Segmentation/val.txt',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
