# All that the released code does differently from pdsl_r18.py, in the model.
_base_ = ['./pdsl_r18.py']
model = dict(
    backbone=dict(frozen_stages=4),
    roi_head=dict(
        reduction='batch_mean',
        smooth_l1_beta=0.0,
        objectness_factor=True,
        soft_masks=False,
        weighted_masks=False,
        correlation_target='pseudo_gt',
        correlation_agnostic=True,
        mask_head=dict(class_agnostic=False),
    ),
    test_cfg=dict(rcnn=dict(nms=dict(iou_threshold=0.3))),
)
