# mmdet's Mask R-CNN with small numbers on a small ResNet-WS; trains on a CPU in minutes.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNetWS',
        depth=18,
        stem_channels=16,
        base_channels=16,
        norm_cfg=dict(type='GN', num_groups=8),
        norm_eval=False,
        pools=(2, 2, 2, 0),
        dilations=(1, 1, 1, 1),
        out_indices=(0, 1, 2, 3),
        outputs_before_pool=True,
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=6),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=32, num_classes=6),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)
