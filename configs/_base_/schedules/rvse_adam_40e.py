# SGR's command for Flickr30K: Adam, 2e-4, 40 epochs of batches of 128, decay by 10 at epoch 30.
_base_ = './rvse_adam_30e.py'
param_scheduler = [dict(type='MultiStepLR', milestones=[30], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=40)
