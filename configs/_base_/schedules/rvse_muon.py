# For small models: Muon and AdamW, 5e-3. A config adds its train_cfg and param_scheduler.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=5e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=2.0),
)
