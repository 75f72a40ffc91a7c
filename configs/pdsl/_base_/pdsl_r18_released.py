# All that the released code does differently from pdsl_r18.py, in the model.
_base_ = ['./pdsl_r18.py']
model = dict(
    backbone=dict(frozen_stages=4),
    roi_head=dict(
        loss_mil=dict(reduction='batch_mean'),
        loss_refine=dict(reduction='batch_mean', smooth_l1_beta=0.0),
        loss_mask=dict(reduction='batch_mean', soft_targets=False, weighted=False),
        loss_correlation=dict(reduction='batch_mean', target='pseudo_gt', agnostic=True),
        objectness_factor=True,
        mask_head=dict(class_agnostic=False),
    ),
    test_cfg=dict(rcnn=dict(nms=dict(iou_threshold=0.3))),
)
