auto_scale_lr = dict(base_batch_size=16, enable=False)
custom_hooks = [
    dict(type='LearnVocabularyHook', vocab_size=1024),
]
custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'projects.plvl.register',
    ],
)
data_root = 'data/scenes'
dataset = dict(
    ann_file='scenes/instances.json',
    data_prefix=dict(img='images/'),
    data_root='data/scenes',
    split_file='scenes/refs(scenes).p',
    type='ReferGroundingDataset',
)
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=800,
        max_keep_ckpts=2,
        rule='greater',
        save_best='grounding/rec_acc50',
        type='AtomicCheckpointHook',
    ),
    logger=dict(interval=50, type='MainProcessLoggerHook'),
    mean_loss=dict(type='MeanLossHook'),
    nonfinite_loss=dict(mode='stop', type='NonFiniteLossHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    progress=dict(type='ProgressBarHook'),
    reproducibility=dict(type='ReproducibilityHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(interval=1, type='PredictionVisualizationHook'),
)
default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
)
log_level = 'INFO'
log_processor = dict(by_epoch=False, type='LogProcessor', window_size=50)
meta_keys = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'text',
    'ref_id',
    'sent_id',
    'ann_id',
    'kind',
    'with_mask',
)
model = dict(
    backbone=dict(
        adapter_channels=32,
        channels=128,
        cross_dropout=0.0,
        cross_heads=4,
        depth=4,
        drop_path_rate=0.0,
        global_indexes=(
            0,
            1,
            2,
            3,
        ),
        language_indexes=(
            1,
            2,
            3,
        ),
        mask_text_padding=True,
        mlp_ratio=3,
        num_heads=4,
        patch_size=16,
        pos_embed_grid=8,
        rel_pos_grid=8,
        stem=(
            (
                32,
                4,
            ),
            (
                64,
                2,
            ),
            (
                64,
                1,
            ),
            (
                128,
                2,
            ),
        ),
        stem_norm_cfg=dict(type='BN'),
        text_channels=128,
        type='LanguageGuidedViT',
        window_size=4,
    ),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_mask=True,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='mmdet.DetDataPreprocessor',
    ),
    decoder=dict(
        channels=128,
        dropout=0.0,
        ffn_channels=384,
        num_heads=4,
        num_layers=2,
        text_channels=128,
        type='LanguageFusionDecoder',
        visual_channels=128,
    ),
    head=dict(
        decode_at='target',
        det_weight=0.5,
        in_channels=128,
        loss_dice=dict(eps=1.0, loss_weight=2.0, naive_dice=True, type='mmdet.DiceLoss'),
        loss_mask=dict(alpha=0.5, loss_weight=10.0, type='mmdet.FocalLoss'),
        norm_cfg=dict(type='BN'),
        patch_size=8,
        prior_prob=0.05,
        seg_weight=1.0,
        type='CollaborativeHead',
    ),
    text_encoder=dict(
        bert=dict(
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
            hidden_size=128,
            intermediate_size=256,
            max_position_embeddings=64,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=1024,
        ),
        max_tokens=20,
        type='BERTTextEncoder',
    ),
    type='PLVL',
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
    dict(begin=0, by_epoch=False, end=200, start_factor=0.01, type='LinearLR'),
    dict(by_epoch=False, type='CosineAnnealingLR'),
]
randomness = dict(deterministic=False, seed=None)
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=64,
    dataset=dict(
        ann_file='scenes/instances.json',
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
                type='GroundingResize',
            ),
            dict(type='LoadGroundingAnnotations'),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'flip',
                    'text',
                    'ref_id',
                    'sent_id',
                    'ann_id',
                    'kind',
                    'with_mask',
                ),
                type='mmdet.PackDetInputs',
            ),
        ],
        split='test',
        split_file='scenes/refs(scenes).p',
        test_mode=True,
        type='ReferGroundingDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
test_evaluator = dict(group_by='kind', type='GroundingMetric')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        keep_ratio=False,
        scale=(
            128,
            128,
        ),
        type='GroundingResize',
    ),
    dict(type='LoadGroundingAnnotations'),
    dict(
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'text',
            'ref_id',
            'sent_id',
            'ann_id',
            'kind',
            'with_mask',
        ),
        type='mmdet.PackDetInputs',
    ),
]
train_cfg = dict(max_iters=3200, type='IterBasedTrainLoop', val_interval=800)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        ann_file='scenes/instances.json',
        data_prefix=dict(img='images/'),
        data_root='data/scenes',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadGroundingAnnotations'),
            dict(prob=0.5, type='RandomFlipWithWords'),
            dict(
                keep_ratio=False,
                scale=(
                    128,
                    128,
                ),
                type='GroundingResize',
            ),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'flip',
                    'text',
                    'ref_id',
                    'sent_id',
                    'ann_id',
                    'kind',
                    'with_mask',
                ),
                type='mmdet.PackDetInputs',
            ),
        ],
        split='train',
        split_file='scenes/refs(scenes).p',
        type='ReferGroundingDataset',
    ),
    num_workers=0,
    sampler=dict(type='InfiniteSampler'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadGroundingAnnotations'),
    dict(prob=0.5, type='RandomFlipWithWords'),
    dict(
        keep_ratio=False,
        scale=(
            128,
            128,
        ),
        type='GroundingResize',
    ),
    dict(
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'text',
            'ref_id',
            'sent_id',
            'ann_id',
            'kind',
            'with_mask',
        ),
        type='mmdet.PackDetInputs',
    ),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        ann_file='scenes/instances.json',
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
                type='GroundingResize',
            ),
            dict(type='LoadGroundingAnnotations'),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'flip',
                    'text',
                    'ref_id',
                    'sent_id',
                    'ann_id',
                    'kind',
                    'with_mask',
                ),
                type='mmdet.PackDetInputs',
            ),
        ],
        split='val',
        split_file='scenes/refs(scenes).p',
        test_mode=True,
        type='ReferGroundingDataset',
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
val_evaluator = dict(group_by='kind', type='GroundingMetric')
visualizer = dict(
    name='visualizer',
    type='GroundingVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ],
)
