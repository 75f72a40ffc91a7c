auto_scale_lr = dict(base_batch_size=32, enable=False)
custom_hooks = [
    dict(min_count=1, type='BuildVocabularyHook'),
    dict(type='GradientNormHook'),
    dict(
        epochs=1,
        loss=dict(loss_weight=0.015625, margin=0.2, reduction='mean', type='ITMTripletLoss'),
        type='LossWarmUpHook',
    ),
]
custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'projects.rvse.register',
    ],
)
data_root = 'data/scenes'
dataset = dict(
    data_prefix=dict(img='images/'), data_root='data/scenes', type='COCOCaptionsMatchingDataset'
)
default_hooks = dict(
    checkpoint=dict(
        interval=3,
        max_keep_ckpts=2,
        rule='greater',
        save_best='matching/rsum',
        type='AtomicCheckpointHook',
    ),
    logger=dict(interval=20, type='MainProcessLoggerHook'),
    mean_loss=dict(type='MeanLossHook'),
    nonfinite_loss=dict(mode='stop', type='NonFiniteLossHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    progress=dict(type='ProgressBarHook'),
    reproducibility=dict(type='ReproducibilityHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='MatchingVisualizationHook'),
)
default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
)
log_level = 'INFO'
log_processor = dict(by_epoch=True, type='LogProcessor', window_size=50)
model = dict(
    backbone=dict(
        base_channels=16,
        depth=18,
        norm_cfg=dict(type='BN'),
        stem_channels=16,
        strides=(
            2,
            2,
            2,
            1,
        ),
        type='mmpretrain.ResNet',
    ),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='ImgDataPreprocessor',
    ),
    image_encoder=dict(
        channels=128, in_channels=128, pool=dict(type='GPO'), type='RegionResidualMLP'
    ),
    loss=dict(eps=0.01, margin=0.2, type='SelHNLoss'),
    similarity=dict(type='CosineSimilarity'),
    text_encoder=dict(
        channels=128,
        pool=dict(type='GPO'),
        type='BiGRUTextEncoder',
        vocab_size=256,
        word_channels=64,
    ),
    type='ImageTextMatcher',
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=2.0),
    constructor='MuonAdamWConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.98,
        ),
        fused=True,
        lr=0.005,
        type='MuonAdamW',
        weight_decay=0.02,
    ),
    type='OptimWrapper',
)
param_scheduler = [
    dict(begin=0, by_epoch=False, end=50, start_factor=0.01, type='LinearLR'),
    dict(
        T_max=3, begin=0, by_epoch=True, convert_to_iter_based=True, end=3, type='CosineAnnealingLR'
    ),
]
randomness = dict(deterministic=False, seed=None)
test_cfg = dict(type='MatchingTestLoop')
test_dataloader = dict(
    batch_size=64,
    dataset=dict(
        ann_file='annotations/captions_test.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                keep_ratio=False,
                scale=(
                    128,
                    128,
                ),
                type='Resize',
            ),
            dict(
                algorithm_keys=[
                    'text',
                    'image_id',
                    'gt_text_id',
                    'gt_image_id',
                ],
                meta_keys=[
                    'img_path',
                ],
                type='mmpretrain.PackInputs',
            ),
        ],
        test_mode=True,
        type='COCOCaptionsMatchingDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
test_evaluator = dict(type='MatchingMetric')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        keep_ratio=False,
        scale=(
            128,
            128,
        ),
        type='Resize',
    ),
    dict(
        algorithm_keys=[
            'text',
            'image_id',
            'gt_text_id',
            'gt_image_id',
        ],
        meta_keys=[
            'img_path',
        ],
        type='mmpretrain.PackInputs',
    ),
]
train_cfg = dict(max_epochs=3, type='EpochBasedTrainLoop', val_interval=3)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        all_captions=True,
        ann_file='annotations/captions_train.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                keep_ratio=False,
                scale=(
                    128,
                    128,
                ),
                type='Resize',
            ),
            dict(
                algorithm_keys=[
                    'text',
                    'image_id',
                    'gt_text_id',
                    'gt_image_id',
                ],
                meta_keys=[
                    'img_path',
                ],
                type='mmpretrain.PackInputs',
            ),
        ],
        type='COCOCaptionsMatchingDataset',
    ),
    drop_last=True,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='DefaultSampler'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        keep_ratio=False,
        scale=(
            128,
            128,
        ),
        type='Resize',
    ),
    dict(
        algorithm_keys=[
            'text',
            'image_id',
            'gt_text_id',
            'gt_image_id',
        ],
        meta_keys=[
            'img_path',
        ],
        type='mmpretrain.PackInputs',
    ),
]
val_cfg = dict(type='MatchingValLoop')
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        ann_file='annotations/captions_val.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                keep_ratio=False,
                scale=(
                    128,
                    128,
                ),
                type='Resize',
            ),
            dict(
                algorithm_keys=[
                    'text',
                    'image_id',
                    'gt_text_id',
                    'gt_image_id',
                ],
                meta_keys=[
                    'img_path',
                ],
                type='mmpretrain.PackInputs',
            ),
        ],
        test_mode=True,
        type='COCOCaptionsMatchingDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
val_evaluator = dict(type='MatchingMetric')
visualizer = dict(
    name='visualizer',
    type='RetrievalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ],
)
