# SCAN's command for Flickr30K: Adam, 2e-4, 30 epochs of batches of 128, decay by 10 at epoch 15.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=2e-4, fused=True),
    clip_grad=dict(max_norm=2.0),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=128)
