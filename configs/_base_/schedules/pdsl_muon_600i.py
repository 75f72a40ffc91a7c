# For small models: Muon and AdamW, 2e-3, 600 iterations, a short warm-up and a cosine.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
