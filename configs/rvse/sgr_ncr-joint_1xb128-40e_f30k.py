# Two SGR networks with NCR that step together, Flickr30K. Not in the paper: warm-up within the 40
# epochs, pairs split by their hardest negatives, a label of 1 or the probability of a match.
_base_ = './sgr_ncr_1xb128-45e_f30k.py'
model = dict(matcher=dict(loss=dict(split='hardest')))
train_dataloader = dict(drop_last=True)
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=40, val_interval=1)
param_scheduler = [dict(type='MultiStepLR', milestones=[30], gamma=0.1, by_epoch=True)]
find_unused_parameters = False
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook', parameter='matchers.0.image_encoder.fc.weight'),
    dict(type='CleanSplitHook', warm_up_epochs=5, max_iter=50, tol=1e-4),
]
