# RVSE (MLP) with small numbers over the grid of a small ResNet; trains on a CPU in minutes.
model = dict(
    type='ImageTextMatcher',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        strides=(1, 2, 2, 1),
        norm_cfg=dict(type='BN'),
    ),
    image_encoder=dict(
        type='RegionResidualMLP', in_channels=128, channels=128, pool=dict(type='GPO')
    ),
    text_encoder=dict(
        type='BiGRUTextEncoder',
        vocab_size=256,
        word_channels=64,
        channels=128,
        pool=dict(type='GPO'),
    ),
    similarity=dict(type='CosineSimilarity'),
    loss=dict(type='SelHNLoss', margin=0.2, eps=0.01),
)
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=1), dict(type='GradientNormHook')]
