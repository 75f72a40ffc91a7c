# VSE-infinity with a BiGRU, as its authors publish it, Flickr30K. Not in the paper's tables.
_base_ = './vse-fc_selhn_1xb128-20e_f30k.py'
model = dict(
    image_encoder=dict(type='RegionParallelMLP'),
    loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2),
)
train_cfg = dict(max_epochs=25)
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook'),
    dict(type='LossWarmUpHook', loss=dict(type='ITMTripletLoss', margin=0.2), epochs=1),
]
