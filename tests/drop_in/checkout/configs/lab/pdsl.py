# PDSL's detector, heads, cue, data set, transforms and metrics.
_base_ = [
    '../_base_/default_runtime.py',
    '../mmtriad/_base_/datasets/scenes_tags_128.py',
    '../mmtriad/pdsl/_base_/pdsl_tiny.py',
]
custom_imports = dict(
    imports=['projects.pdsl.register', 'projects.lab'], allow_failed_imports=False
)
custom_hooks = [dict(type='LabWhatRanHook')]
model = dict(
    cue=dict(_delete_=True, type='GrabCutCue', iterations=1),
    roi_head=dict(num_seeds=2),
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
train_dataloader = dict(batch_size=2)
test_dataloader = dict(dataset=dict(ann_file='annotations/instances_val.json'))  # as validated
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(by_epoch=False, interval=4))
log_processor = dict(by_epoch=False)
