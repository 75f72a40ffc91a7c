# RVSE++ Table 4, row 7, half: SGR of SGRAF in two networks with NCR, Flickr30K
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
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook', parameter='matchers.0.image_encoder.fc.weight'),
    dict(type='CleanSplitHook', warm_up_epochs=5),
]
