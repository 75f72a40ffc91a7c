# BFAN's command for Flickr30K: Adam, 2e-4, 15 epochs of batches of 128.
_base_ = './rvse_adam_30e.py'
# The released decay, by 10 at epoch 15, lies behind the last epoch.
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
train_cfg = dict(max_epochs=15)
