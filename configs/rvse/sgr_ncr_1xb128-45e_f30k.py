# RVSE++ Table 4, row 7: two SGR networks of SGRAF with NCR as released, whose mean is tested,
# Flickr30K. Five epochs of warm-up come before the 40, of which the rate decays after 30.
_base_ = './sgr_hn_1xb128-40e_f30k.py'
model = dict(
    _delete_=True,
    type='CoTrainedMatcher',
    data_preprocessor=dict(type='BaseDataPreprocessor'),
    matcher=dict(
        type='ImageTextMatcher',
        image_encoder=_base_.model.image_encoder,
        text_encoder=_base_.model.text_encoder,
        similarity=_base_.model.similarity,
        loss=dict(type='NCRLoss', margin=0.2),
    ),
)
train_dataloader = dict(drop_last=False)
train_cfg = dict(
    _delete_=True, type='CoTrainLoop', max_epochs=45, warm_up_epochs=5, val_begin=5, val_interval=1
)
param_scheduler = [dict(type='MultiStepLR', milestones=[35], gamma=0.1, by_epoch=True)]
find_unused_parameters = True  # of the network whose turn it is not
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook', parameter='matchers.0.image_encoder.fc.weight'),
]
