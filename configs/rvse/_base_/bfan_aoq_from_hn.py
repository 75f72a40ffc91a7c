# BFAN (equal) with AOQ that continues from the model trained with hard negatives, which is also
# the miner. There are five terms, and no gradient flows through their weight.
_base_ = './region_word.py'
model = dict(
    type='OfflineNegativesMatcher',
    similarity=dict(type='BFANSimilarity', focus='equal'),
    loss=dict(_delete_=True, type='AOQLoss', margin=0.2, terms=5, clamp_weight=True),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='OfflineMiningHook', top_captions=300, top_images=300),
]
