# PDSL section 4.2: CorLoc and the mAP of tags on VOC's training images, of a trained model
_base_ = [
    './_base_/pdsl_r18.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_sgd_100k.py',
    './_base_/runtime_iters.py',
]
test_dataloader = dict(
    dataset=dict(
        ann_file='VOC2012/ImageSets/Main/trainval.txt',
        exclude='VOC2012/ImageSets/Segmentation/val.txt',
        mask_subdir=None,
    )
)
test_evaluator = [dict(type='CorLocMetric', classwise=True), dict(type='TagMetric')]
