# RVSE++ Table 4, row 7: two SGR networks of SGRAF with NCR as released, Flickr30K. The mean of both
# is tested. Five epochs of warm-up come before the 40, and the rate decays after 30 of these.
_base_ = [
    './_base_/ncr.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(matcher=dict(loss=dict(_delete_=True, type='NCRLoss', margin=0.2)))
train_dataloader = dict(drop_last=False)
train_cfg = dict(
    _delete_=True, type='CoTrainLoop', max_epochs=45, warm_up_epochs=5, val_begin=5, val_interval=1
)
param_scheduler = [dict(type='MultiStepLR', milestones=[35], gamma=0.1, by_epoch=True)]
find_unused_parameters = True  # one network waits while the other one learns
custom_hooks = [  # the loop splits the pairs, so that there is no CleanSplitHook
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook', parameter='matchers.0.image_encoder.fc.weight'),
]
