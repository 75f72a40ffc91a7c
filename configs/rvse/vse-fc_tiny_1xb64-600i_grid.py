# VSE (FC) with small numbers: the curves of docs/rvse_selhn_report.md. Not in the paper.
_base_ = [
    './_base_/vse_fc.py',
    './_base_/grid_precomp.py',
    './_base_/adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(
    image_encoder=dict(in_channels=64, channels=128, drop_rate=0.0),
    text_encoder=dict(vocab_size=4096, word_channels=64, channels=128, mask_rate=0.0),
)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=1), dict(type='GradientNormHook')]
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler'))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=600, val_interval=75)
param_scheduler = [dict(type='MultiStepLR', milestones=[450], gamma=0.1, by_epoch=False)]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=600, max_keep_ckpts=1),
    logger=dict(interval=5),
)
log_processor = dict(by_epoch=False, window_size=5)
