# For small models: Muon and AdamW, 2e-3, 3,200 iterations, a short warm-up and a cosine.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3200, val_interval=800)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=200, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
