# Section 3.1 and appendix A: AdamW, 5e-4, 20 epochs of batches of 128, gradients clipped at 2. The
# paper names no decay for these models; it falls by 10 at epoch 15 as in the released code.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, fused=True),
    clip_grad=dict(max_norm=2.0),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=128)
