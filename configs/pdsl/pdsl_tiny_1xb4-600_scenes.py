# Small PDSL on generated scenes: what `make quickstart PROJECT=pdsl` trains. Not in the paper.
_base_ = [
    './_base_/pdsl_tiny.py',
    '../_base_/datasets/scenes_tags_128.py',
    './_base_/runtime_iters.py',
]
model = dict(
    # One iteration of GrabCut cuts these scenes out as well as five.
    cue=dict(
        _delete_=True,
        type='CachedCue',
        cue=dict(type='GrabCutCue', iterations=1),
        folder='{{$SCENES_ROOT:data/scenes}}/cues',
    ),
    roi_head=dict(num_seeds=3),
    test_cfg=dict(rcnn=dict(score_thr=0.01)),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MuonAdamWConstructor',
    optimizer=dict(type='MuonAdamW', lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=300))
auto_scale_lr = dict(enable=False, base_batch_size=4)
