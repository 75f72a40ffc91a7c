# Train a small PLVL on synthetic scenes: `make quickstart`. Not in the paper.
_base_ = [
    './_base_/plvl_tiny.py',
    '../_base_/datasets/scenes_128.py',
    './_base_/runtime.py',
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000, val_interval=750)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=200, by_epoch=False),
    dict(type='PolynomialLR', power=1.0, by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=750, save_best='grounding/rec_acc50', rule='greater'),
    visualization=dict(interval=1),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
