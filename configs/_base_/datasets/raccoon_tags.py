# Photographs with and without raccoons: OWN_ROOT holds images/, tags.txt (of every training image,
# its name and the tag or none), instances_test.json (COCO's format) and proposals/, written by
# tools/misc/generate_proposals.py. `python .dev/real_pictures.py data` makes them. Most raccoons
# fill their images, so proposals with a side below 128 pixels, which hold parts, are left out.
_base_ = './pdsl_views.py'
data_root = '{{$OWN_ROOT:data/raccoon}}'
classes = ('raccoon',)
proposals = dict(type='LoadStoredProposals', folder=data_root + '/proposals', max_proposals=300)
train_pipeline = [
    _base_.train_pipeline[0],
    proposals,
    dict(type='mmdet.Resize', scale=(320, 320), keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ProjectProposals', min_side=128),
    _base_.train_pipeline[-1],
]
test_pipeline = [
    _base_.test_pipeline[0],
    proposals,
    dict(type='mmdet.Resize', scale=(320, 320), keep_ratio=True),
    dict(type='ProjectProposals', min_side=128),
    *_base_.test_pipeline[-2:],
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='TagFileDataset',
        data_root=data_root,
        data_prefix=dict(img='images/'),
        ann_file='tags.txt',
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='COCOInstanceDataset',
        data_root=data_root,
        data_prefix=dict(img='images/'),
        ann_file='instances_test.json',
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='InstanceCocoMetric', metric='bbox'), dict(type='CorLocMetric')]
test_evaluator = val_evaluator
