# Region features from a linear layer and word features from a BiGRU, none of them pooled, for
# methods that compare each region with each word; hard negatives. A config adds the similarity.
model = dict(
    type='ImageTextMatcher',
    data_preprocessor=dict(type='BaseDataPreprocessor'),
    image_encoder=dict(type='RegionFC', in_channels=2048, channels=1024),
    text_encoder=dict(
        type='BiGRUTextEncoder',
        vocab_size=8481,  # Flickr30K's; COCO's has 11,353 words
        word_channels=300,
        channels=1024,
    ),
    loss=dict(type='HardNegativeLoss', margin=0.2),
)
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=4), dict(type='GradientNormHook')]
