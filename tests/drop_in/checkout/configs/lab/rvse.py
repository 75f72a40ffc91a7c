# RVSE's matcher, encoders, SelHN, data set, metric and loops, in mmpretrain.
_base_ = [
    'mmpretrain::_base_/default_runtime.py',
    '../mmtriad/_base_/datasets/scenes_captions_128.py',
    '../mmtriad/rvse/_base_/rvse_tiny.py',
]
custom_imports = dict(
    imports=['projects.rvse.register', 'projects.lab'], allow_failed_imports=False
)
custom_hooks = [dict(type='BuildVocabularyHook', min_count=1), dict(type='LabWhatRanHook')]
train_dataloader = dict(batch_size=4)
test_dataloader = dict(dataset=dict(ann_file='annotations/captions_val.json'))  # as validated
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='MatchingValLoop')
test_cfg = dict(type='MatchingTestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
default_hooks = dict(logger=dict(interval=1))
