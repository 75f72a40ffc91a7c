# SCAN's command for COCO: Adam, 5e-4, 20 epochs of batches of 128, decay by 10 at epoch 10.
_base_ = './rvse_adam_30e.py'
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type='MultiStepLR', milestones=[10], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=20)
