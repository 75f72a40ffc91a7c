# PDSL section 4.3: SGD 0.01, 100,000 iterations, a tenth from 70,000 on, 4 GPUs x 1 image. What
# the paper leaves open is as released: weight decay, biases twice as fast and without decay. The
# warm-up is neither's: without it one step moves image-level scores from one limit to the other,
# and the losses rise up to tenfold before they fall (docs/pdsl.md).
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=500, by_epoch=False),
    dict(type='MultiStepLR', milestones=[70000], gamma=0.1, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=4)
