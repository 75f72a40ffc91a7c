# Train a small PLVL on scenes with sentences about no object, one or several:
# `make quickstart DATA=generalized`. Not in the paper.
_base_ = [
    './_base_/plvl_tiny.py',
    '../_base_/datasets/scenes_generalized_128.py',
    '../_base_/schedules/plvl_muon_3k.py',
    './_base_/runtime.py',
]
model = dict(
    type='GeneralizedPLVL',
    head=dict(type='GeneralizedHead', presence=dict(type='PresenceHead')),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=750, save_best='grounding/gres_giou', rule='greater'),
    visualization=dict(interval=1),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
