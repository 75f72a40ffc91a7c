# Section 4.1: AdamW, 5e-4, 30 epochs of batches of 128, decay by 10 at epoch 15; BERT's rate is a
# tenth and the weight decay 1e-4 as in the released code.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=1e-4, fused=True),
    paramwise_cfg=dict(custom_keys={'text_encoder.encoder': dict(lr_mult=0.1)}),
    clip_grad=dict(max_norm=2.0),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=128)
