# The second stage on generated scenes: mmdet's Mask R-CNN, small, on what PDSL found on its
# training pictures. Not in the paper.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../../_base_/datasets/scenes_pseudo_128.py',
    '../../_base_/default_runtime.py',
]
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
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=1000, save_best='coco/segm_mAP_50', rule='greater'),
    visualization=dict(type='PredictionVisualizationHook'),
)
visualizer = dict(type='InstanceVisualizer')
log_processor = dict(by_epoch=False)
