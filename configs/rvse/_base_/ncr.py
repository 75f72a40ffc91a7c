# Two SGR networks of SGRAF with NCR that step together. Pairs are split by their hardest
# negatives, after five epochs of warm-up; a label is 1 or the probability of a match.
_base_ = './region_word.py'
model = dict(
    _delete_=True,
    type='CoTrainedMatcher',
    data_preprocessor=_base_.model.data_preprocessor,
    matcher=dict(
        type='ImageTextMatcher',
        image_encoder=_base_.model.image_encoder,
        text_encoder=dict(_base_.model.text_encoder, word_dropout=0.4),
        similarity=dict(type='SGRSimilarity'),
        loss=dict(type='NCRLoss', margin=0.2, split='hardest'),
    ),
)
find_unused_parameters = False
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook', parameter='matchers.0.image_encoder.fc.weight'),
    dict(type='CleanSplitHook', warm_up_epochs=5, max_iter=50, tol=1e-4),
]
