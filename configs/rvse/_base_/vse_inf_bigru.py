# VSE-infinity with a BiGRU: its MLP reads the regions in parallel to the linear layer.
# Training uses hard negatives after one epoch of all negatives.
_base_ = './vse_fc.py'
model = dict(
    image_encoder=dict(type='RegionParallelMLP'),
    loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LossWarmUpHook', loss=dict(type='ITMTripletLoss', margin=0.2), epochs=1),
]
