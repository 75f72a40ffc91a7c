# Train a small RVSE++ on a handful of COCO's images to check that it learns from real data. It is
# validated on the training images. Not in the paper.
_base_ = [
    './_base_/rvse_tiny.py',
    '../_base_/datasets/coco-sample_128.py',
    '../_base_/schedules/rvse_muon.py',
    './_base_/runtime.py',
]
model = dict(text_encoder=dict(vocab_size=2048))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=20)
val_cfg = dict(type='MatchingValLoop')
test_cfg = dict(type='MatchingTestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=20), logger=dict(interval=2))
auto_scale_lr = dict(enable=False, base_batch_size=40)
