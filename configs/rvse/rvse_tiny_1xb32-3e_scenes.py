# Train a small RVSE++ on synthetic scenes: `make quickstart PROJECT=rvse`. Not in the paper.
_base_ = [
    './_base_/rvse_tiny.py',
    '../_base_/datasets/scenes_captions_128.py',
    '../_base_/schedules/rvse_muon.py',
    './_base_/runtime.py',
]
# 16 regions of 32 x 32 pixels, an object's size; 64 of 16 x 16 cost more and learn less.
model = dict(backbone=dict(strides=(2, 2, 2, 1)))
# Small batches: more steps, and fewer captions that are true of another image of the batch.
train_dataloader = dict(batch_size=32)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=3)
val_cfg = dict(type='MatchingValLoop')
test_cfg = dict(type='MatchingTestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(
        type='CosineAnnealingLR', T_max=3, begin=0, end=3, by_epoch=True, convert_to_iter_based=True
    ),
]
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=1),
    dict(type='GradientNormHook'),
    # From random weights SelHN's hard negatives hold the scores together for a hundred steps, a
    # large part of such a short training.
    dict(
        type='LossWarmUpHook',
        loss=dict(type='ITMTripletLoss', margin=0.2, reduction='mean', loss_weight=1 / 64),
        epochs=1,
    ),
]
default_hooks = dict(checkpoint=dict(interval=3), logger=dict(interval=20))
auto_scale_lr = dict(enable=False, base_batch_size=32)
