# Small PDSL on small views of VOC 2012 or a few pictures of one's own: a trial. Not in the paper.
_base_ = [
    './_base_/pdsl_tiny.py',
    '../_base_/datasets/voc2012_tags.py',
    './_base_/runtime_iters.py',
]
data_root = '{{$DATA_ROOT:data}}/'
proposals = dict(
    type='LoadStoredProposals', folder='{{$PDSL_PROPOSALS:data/proposals}}', max_proposals=300
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    proposals,
    dict(type='mmdet.Resize', scale=(256, 192), keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ProjectProposals', min_side=8),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
            'tags', 'homography_matrix', 'ori_proposals',
        ),
    ),
]  # fmt: skip
test_pipeline = [
    dict(type='LoadImageFromFile'),
    proposals,
    dict(type='mmdet.Resize', scale=(256, 192), keep_ratio=True),
    dict(type='ProjectProposals', min_side=8),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
model = dict(
    cue=dict(iterations=1),
    roi_head=dict(num_seeds=1, bbox_head=dict(num_classes=20), mask_head=dict(num_classes=20)),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
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
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=500))
