# For pretrained models and few captions, without a source in the paper: AdamW, 1e-4, 5 epochs of
# batches of 16, gradients clipped at 2.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=2.0),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=5, val_interval=5)
auto_scale_lr = dict(enable=False, base_batch_size=16)
