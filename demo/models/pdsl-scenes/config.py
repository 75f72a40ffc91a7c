auto_scale_lr = dict(base_batch_size=4, enable=False)
classes = (
    'circle',
    'square',
    'triangle',
    'star',
    'cross',
    'heart',
)
custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'projects.pdsl.register',
    ],
)
data_root = 'data/scenes'
dataset = dict(
    data_prefix=dict(img='images/'),
    data_root='data/scenes',
    metainfo=dict(
        classes=(
            'circle',
            'square',
            'triangle',
            'star',
            'cross',
            'heart',
        )
    ),
    pipeline=[
        dict(backend_args=dict(backend='any_image'), type='LoadImageFromFile'),
        dict(folder='data/scenes/proposals', max_proposals=250, type='LoadStoredProposals'),
        dict(
            scale=(
                128,
                128,
            ),
            type='mmdet.Resize',
        ),
        dict(min_side=8, type='ProjectProposals'),
        dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
        dict(
            meta_keys=(
                'img_id',
                'img_path',
                'ori_shape',
                'img_shape',
                'scale_factor',
                'instances',
            ),
            type='mmdet.PackDetInputs',
        ),
    ],
    test_mode=True,
    type='COCOInstanceDataset',
)
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=300,
        max_keep_ckpts=2,
        rule='greater',
        save_best='coco/segm_mAP_50',
        type='AtomicCheckpointHook',
    ),
    logger=dict(interval=50, log_metric_by_epoch=False, type='MainProcessLoggerHook'),
    mean_loss=dict(type='MeanLossHook'),
    nonfinite_loss=dict(mode='stop', type='NonFiniteLossHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    progress=dict(type='ProgressBarHook'),
    reproducibility=dict(type='ReproducibilityHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='PredictionVisualizationHook'),
)
default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
)
log_level = 'INFO'
log_processor = dict(by_epoch=False, type='LogProcessor', window_size=50)
model = dict(
    backbone=dict(
        base_channels=16,
        depth=18,
        dilations=(
            1,
            1,
            2,
        ),
        init_cfg=None,
        norm_cfg=dict(num_groups=8, type='GN'),
        norm_eval=False,
        num_stages=3,
        out_indices=(2,),
        pools=(
            1,
            1,
            0,
        ),
        stem_channels=16,
        type='ResNetWS',
    ),
    cue=dict(
        cue=dict(iterations=1, type='GrabCutCue'), folder='data/scenes/cues', type='CachedCue'
    ),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_size_divisor=8,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='mmdet.DetDataPreprocessor',
    ),
    roi_head=dict(
        assigner=dict(iou_thr=0.5, type='OverlapAssigner'),
        bbox_head=dict(
            dropout=0.0,
            fc_channels=(
                256,
                256,
            ),
            in_channels=64,
            init_cfg=None,
            num_classes=6,
            num_refinements=3,
            type='PDSLBoxHead',
        ),
        bbox_roi_extractor=dict(
            featmap_strides=[
                4,
            ],
            out_channels=64,
            roi_layer=dict(output_size=7, type='RoIPool'),
            type='PortableRoIExtractor',
        ),
        loss_correlation=dict(average='proposals', type='InstanceCorrelationLoss'),
        loss_mask=dict(type='PseudoMaskLoss'),
        loss_mil=dict(type='MILLoss'),
        loss_refine=dict(type='RefinementLoss'),
        mask_head=dict(
            conv_out_channels=32,
            in_channels=64,
            num_classes=6,
            num_convs=2,
            num_specific=2,
            type='PDSLMaskHead',
        ),
        mask_roi_extractor=dict(
            featmap_strides=[
                4,
            ],
            out_channels=64,
            roi_layer=dict(output_size=14, sampling_ratio=0, type='RoIAlign'),
            type='PortableRoIExtractor',
        ),
        miner=dict(type='TopBoxMiner'),
        num_seeds=3,
        type='PDSLRoIHead',
    ),
    test_cfg=dict(
        rcnn=dict(
            mask_thr_binary=0.5,
            max_per_img=100,
            nms=dict(iou_threshold=0.5, type='nms'),
            score_thr=0.01,
        )
    ),
    type='PDSL',
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=1.0),
    constructor='MuonAdamWConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.98,
        ),
        fused=True,
        lr=0.002,
        type='MuonAdamW',
        weight_decay=0.02,
    ),
    type='OptimWrapper',
)
param_scheduler = [
    dict(begin=0, by_epoch=False, end=50, start_factor=0.02, type='LinearLR'),
    dict(by_epoch=False, type='CosineAnnealingLR'),
]
randomness = dict(deterministic=False, seed=None)
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='annotations/instances_test.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        metainfo=dict(
            classes=(
                'circle',
                'square',
                'triangle',
                'star',
                'cross',
                'heart',
            )
        ),
        pipeline=[
            dict(backend_args=dict(backend='any_image'), type='LoadImageFromFile'),
            dict(folder='data/scenes/proposals', max_proposals=250, type='LoadStoredProposals'),
            dict(
                scale=(
                    128,
                    128,
                ),
                type='mmdet.Resize',
            ),
            dict(min_side=8, type='ProjectProposals'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'instances',
                ),
                type='mmdet.PackDetInputs',
            ),
        ],
        test_mode=True,
        type='COCOInstanceDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
test_evaluator = [
    dict(
        metric=[
            'bbox',
            'segm',
        ],
        type='InstanceCocoMetric',
    ),
    dict(type='TagMetric'),
]
test_pipeline = [
    dict(backend_args=dict(backend='any_image'), type='LoadImageFromFile'),
    dict(folder='data/scenes/proposals', max_proposals=250, type='LoadStoredProposals'),
    dict(
        scale=(
            128,
            128,
        ),
        type='mmdet.Resize',
    ),
    dict(min_side=8, type='ProjectProposals'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'instances',
        ),
        type='mmdet.PackDetInputs',
    ),
]
train_cfg = dict(max_iters=600, type='IterBasedTrainLoop', val_interval=300)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        ann_file='annotations/tags_train.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        metainfo=dict(
            classes=(
                'circle',
                'square',
                'triangle',
                'star',
                'cross',
                'heart',
            )
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(folder='data/scenes/proposals', max_proposals=250, type='LoadStoredProposals'),
            dict(
                scale=(
                    128,
                    128,
                ),
                type='mmdet.Resize',
            ),
            dict(prob=0.5, type='mmdet.RandomFlip'),
            dict(min_side=8, type='ProjectProposals'),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'flip',
                    'tags',
                    'homography_matrix',
                    'ori_proposals',
                ),
                type='mmdet.PackDetInputs',
            ),
        ],
        type='TagFileDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=True, type='InfiniteSampler'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(folder='data/scenes/proposals', max_proposals=250, type='LoadStoredProposals'),
    dict(
        scale=(
            128,
            128,
        ),
        type='mmdet.Resize',
    ),
    dict(prob=0.5, type='mmdet.RandomFlip'),
    dict(min_side=8, type='ProjectProposals'),
    dict(
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'tags',
            'homography_matrix',
            'ori_proposals',
        ),
        type='mmdet.PackDetInputs',
    ),
]
tta_model = dict(type='PDSLTTAModel')
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        metainfo=dict(
            classes=(
                'circle',
                'square',
                'triangle',
                'star',
                'cross',
                'heart',
            )
        ),
        pipeline=[
            dict(backend_args=dict(backend='any_image'), type='LoadImageFromFile'),
            dict(folder='data/scenes/proposals', max_proposals=250, type='LoadStoredProposals'),
            dict(
                scale=(
                    128,
                    128,
                ),
                type='mmdet.Resize',
            ),
            dict(min_side=8, type='ProjectProposals'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'instances',
                ),
                type='mmdet.PackDetInputs',
            ),
        ],
        test_mode=True,
        type='COCOInstanceDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
val_evaluator = [
    dict(
        metric=[
            'bbox',
            'segm',
        ],
        type='InstanceCocoMetric',
    ),
    dict(type='TagMetric'),
]
visualizer = dict(
    name='visualizer',
    type='InstanceVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ],
)
