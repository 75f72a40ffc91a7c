# pdsl_sgd_100k.py as the released code trains: no warm-up, VOC's 60,000 iterations with two steps.
_base_ = './pdsl_sgd_100k.py'
train_cfg = dict(max_iters=60000)
param_scheduler = [dict(type='MultiStepLR', milestones=[35000, 50000], gamma=0.1, by_epoch=False)]
