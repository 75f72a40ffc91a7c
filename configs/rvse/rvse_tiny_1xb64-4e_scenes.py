# Small RVSE++ on generated scenes: what `make quickstart PROJECT=rvse` trains. Not in the paper.
_base_ = [
    './_base_/rvse_tiny.py',
    './_base_/scenes_128_captions.py',
    '../_base_/default_runtime.py',
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=4)
val_cfg = dict(type='MatchingValLoop')
test_cfg = dict(type='MatchingTestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=5e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=2.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(
        type='CosineAnnealingLR', T_max=4, begin=0, end=4, by_epoch=True, convert_to_iter_based=True
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=4, save_best='matching/rsum', rule='greater'),
    logger=dict(interval=20),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
