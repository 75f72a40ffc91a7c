# Small RVSE++ on a handful of COCO's pictures: a check that real data trains; validation is on the
# training pictures. Not in the paper.
_base_ = [
    './_base_/rvse_tiny.py',
    './_base_/coco-sample_128.py',
    '../_base_/default_runtime.py',
]
model = dict(text_encoder=dict(vocab_size=2048))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=20)
val_cfg = dict(type='MatchingValLoop')
test_cfg = dict(type='MatchingTestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=5e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=2.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    visualization=dict(type='MatchingVisualizationHook'),
    checkpoint=dict(interval=20, save_best='matching/rsum', rule='greater'),
    logger=dict(interval=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=40)
