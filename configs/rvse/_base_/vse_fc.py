# VSE (FC), Figure 2a: BUTD regions, a linear layer, GPO; BiGRU and GPO for captions; SelHN.
# Size augmentation (20 %) as in the released code. Without a vocab_file, the
# vocabulary is built from the training captions.
model = dict(
    type='ImageTextMatcher',
    data_preprocessor=dict(type='BaseDataPreprocessor'),
    image_encoder=dict(
        type='RegionFC', in_channels=2048, channels=1024, pool=dict(type='GPO'), drop_rate=0.2
    ),
    text_encoder=dict(
        type='BiGRUTextEncoder',
        vocab_size=8482,  # Flickr30K's 8,481 words and <mask>; COCO has 11,353 words
        word_channels=300,
        channels=1024,
        pool=dict(type='GPO'),
        mask_rate=0.2,
    ),
    similarity=dict(type='CosineSimilarity'),
    loss=dict(type='SelHNLoss', margin=0.2, eps=0.01),
)
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=4), dict(type='GradientNormHook')]
