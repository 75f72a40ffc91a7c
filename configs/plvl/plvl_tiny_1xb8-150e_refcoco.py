# Train a small PLVL on a handful of RefCOCO's images to check that it learns from real data.
# Not in the paper.
_base_ = [
    './_base_/plvl_tiny.py',
    '../_base_/datasets/refcoco_256_plain.py',
    './_base_/runtime.py',
]
model = dict(backbone=dict(pos_embed_grid=16, rel_pos_grid=16))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=150, val_interval=50)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=7e-4, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    checkpoint=dict(interval=50, save_best='grounding/rec_acc50', rule='greater'),
    logger=dict(interval=10),
    visualization=dict(interval=1),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
