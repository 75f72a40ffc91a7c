# PDSL section 4.2: CorLoc and the mAP of tags on VOC's training pictures, of a trained model
_base_ = './pdsl_r18_4xb1-100k_voc12.py'
test_dataloader = dict(
    dataset=dict(
        ann_file='VOC2012/ImageSets/Main/trainval.txt',
        exclude='VOC2012/ImageSets/Segmentation/val.txt',
        mask_subdir=None,
    )
)
test_evaluator = [dict(type='CorLocMetric', classwise=True), dict(type='TagMetric')]
