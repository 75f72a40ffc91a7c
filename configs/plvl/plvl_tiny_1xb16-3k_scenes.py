# Train a small PLVL on synthetic scenes: `make quickstart`. Not in the paper.
_base_ = [
    './_base_/plvl_tiny.py',
    '../_base_/datasets/scenes_128.py',
    '../_base_/schedules/plvl_muon_3k.py',
    './_base_/runtime.py',
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
)
train_cfg = dict(max_iters=2900, val_interval=725)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=725, save_best='grounding/rec_acc50', rule='greater'),
    visualization=dict(interval=1),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
