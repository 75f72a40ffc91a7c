# The same model on small images of VOC 2012, or on a few of your own in VOC's layout, as a trial.
# Not in the paper.
_base_ = [
    './_base_/pdsl_lite0.py',
    '../_base_/datasets/voc2012_tags.py',
    '../_base_/schedules/pdsl_muon_600i.py',
    './_base_/runtime_iters.py',
]
proposals = dict(_base_.proposals, max_proposals=300)
train_pipeline = [
    _base_.train_pipeline[0],
    proposals,
    dict(type='mmdet.Resize', scale=(320, 320), keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ProjectProposals', min_side=16),
    _base_.train_pipeline[-1],
]
test_pipeline = [
    _base_.test_pipeline[0],
    proposals,
    dict(type='mmdet.Resize', scale=(320, 320), keep_ratio=True),
    dict(type='ProjectProposals', min_side=16),
    *_base_.test_pipeline[-2:],
]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
