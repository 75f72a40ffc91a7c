# The classes of PDSL with small numbers: trains on a CPU in minutes, from nothing. Losses are
# means, as released: the paper's sums ask for a learning rate that depends on the proposals.
model = dict(
    type='PDSL',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=8,
    ),
    backbone=dict(
        type='ResNetWS',
        depth=18,
        stem_channels=16,
        base_channels=16,
        norm_cfg=dict(type='GN', num_groups=8),
        norm_eval=False,
    ),
    cue=dict(type='GrabCutCue'),
    roi_head=dict(
        type='PDSLRoIHead',
        num_seeds=10,
        reduction='mean',
        bbox_roi_extractor=dict(
            type='PortableRoIExtractor',
            roi_layer=dict(type='RoIPool', output_size=7),
            out_channels=128,
            featmap_strides=[8],
        ),
        bbox_head=dict(
            type='PDSLBoxHead',
            in_channels=128,
            roi_feat_size=7,
            num_classes=6,
            fc_channels=(256, 256),
            dropout=0.0,
            num_refinements=3,
        ),
        mask_roi_extractor=dict(
            type='PortableRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=128,
            featmap_strides=[8],
        ),
        mask_head=dict(
            type='PDSLMaskHead',
            num_specific=2,
            num_convs=2,
            in_channels=128,
            conv_out_channels=32,
            num_classes=6,
        ),
    ),
    test_cfg=dict(
        rcnn=dict(
            score_thr=1e-5,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        )
    ),
)
custom_imports = dict(imports=['projects.pdsl'], allow_failed_imports=False)
