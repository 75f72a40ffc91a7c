# PLVL section 4.1: AdamW, three learning rates, 150 epochs, 4 GPUs x 20. Epoch e of E learns with
# (1 - e/E)^0.9, as released; the decay ends with training, whatever max_epochs is.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2.5e-5, weight_decay=1e-4, fused=True),
    paramwise_cfg=dict(
        custom_keys=dict(
            text_encoder=dict(lr_mult=0.2),  # 5e-6
            backbone=dict(lr_mult=0.4),  # 1e-5, for what reads language too, as released
        )
    ),
)
param_scheduler = [dict(type='PolynomialLR', power=0.9, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=150, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=80)
