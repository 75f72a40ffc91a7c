# VSE (FC) with small numbers for grid features of 64 channels.
_base_ = './vse_fc.py'
model = dict(
    image_encoder=dict(in_channels=64, channels=128, drop_rate=0.0),
    text_encoder=dict(vocab_size=4096, word_channels=64, channels=128, mask_rate=0.0),
)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=1), dict(type='GradientNormHook')]
