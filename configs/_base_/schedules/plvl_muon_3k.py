# For small models: Muon and AdamW, 2e-3, 3,000 iterations, a short warm-up and a linear decay.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000, val_interval=750)
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
    dict(type='PolynomialLR', power=1.0, by_epoch=False),
]
