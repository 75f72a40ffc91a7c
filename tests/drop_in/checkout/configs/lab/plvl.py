# PLVL's detector, head, losses, data set and metric.
_base_ = [
    '../_base_/default_runtime.py',
    '../mmtriad/_base_/datasets/scenes_128.py',
    '../mmtriad/plvl/_base_/plvl_tiny.py',
]
custom_imports = dict(
    imports=['projects.plvl.register', 'projects.lab'], allow_failed_imports=False
)
custom_hooks = [
    dict(type='LearnVocabularyHook', vocab_size=1024),
    dict(type='LabWhatRanHook'),
]
model = dict(backbone=dict(depth=2, global_indexes=(0, 1), language_indexes=(1,)))
train_dataloader = dict(batch_size=8)
test_dataloader = dict(dataset=dict(split='val'))  # as validated
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
default_hooks = dict(logger=dict(interval=1))
