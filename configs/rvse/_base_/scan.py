# SCAN t2i AVG: regions and words are compared, nothing is pooled; hard negatives, as published.
model = dict(
    type='ImageTextMatcher',
    data_preprocessor=dict(type='BaseDataPreprocessor'),
    image_encoder=dict(type='RegionFC', in_channels=2048, channels=1024),
    text_encoder=dict(
        type='BiGRUTextEncoder',
        vocab_size=8481,  # Flickr30K's
        word_channels=300,
        channels=1024,
    ),
    similarity=dict(type='SCANSimilarity', direction='t2i', aggregation='AVG'),
    loss=dict(type='HardNegativeLoss', margin=0.2),
)
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=4), dict(type='GradientNormHook')]
