# RVSE++ Table 5, row 9: VSE-infinity (BERT), Flickr30K
_base_ = './rvsepp_selhn_1xb128-30e_f30k.py'
# Its MLP reads the regions; hard negatives after an epoch of all negatives.
model = dict(
    image_encoder=dict(type='RegionParallelMLP'),
    loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2),
)
train_cfg = dict(max_epochs=25)
custom_hooks = [
    dict(type='LearnVocabularyHook', vocab_size=30522),
    dict(type='GradientNormHook'),
    dict(type='LossWarmUpHook', loss=dict(type='ITMTripletLoss', margin=0.2), epochs=1),
]
