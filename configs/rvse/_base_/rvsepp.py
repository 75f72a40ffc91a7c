# RVSE++ (section 3.4): the image encoder of RVSE (MLP), BERT-base and GPO for captions; SelHN.
# RVSE_BERT: folder or hub id of BERT-base weights (bert-base-uncased).
# RVSE_BERT_VOCAB: a vocab.txt, if they come without one.
# Without weights, BERT starts from random ones and logs that it does.
import os

model = dict(
    type='ImageTextMatcher',
    data_preprocessor=dict(type='BaseDataPreprocessor'),
    image_encoder=dict(
        type='RegionResidualMLP',
        in_channels=2048,
        channels=1024,
        pool=dict(type='GPO'),
        drop_rate=0.2,
    ),
    text_encoder=dict(
        type='BERTCaptionEncoder',
        encoder=dict(
            pretrained=os.environ.get('RVSE_BERT'),
            vocab_file=os.environ.get('RVSE_BERT_VOCAB'),
            max_tokens=128,
        ),
        channels=1024,
        pool=dict(type='GPO'),
        mask_rate=0.2,
    ),
    similarity=dict(type='CosineSimilarity'),
    loss=dict(type='SelHNLoss', margin=0.2, eps=0.01),
)
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
custom_hooks = [dict(type='LearnVocabularyHook', vocab_size=30522), dict(type='GradientNormHook')]
