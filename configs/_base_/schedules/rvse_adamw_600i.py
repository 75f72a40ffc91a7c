# For small models: AdamW, 1e-3, 600 iterations, decay by 10 at iteration 450.
_base_ = './rvse_adamw_20e.py'
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='MultiStepLR', milestones=[450], gamma=0.1, by_epoch=False)]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=600, val_interval=75)
