# RefCOCO in the refer layout, at 256 x 256 pixels, without augmentation, for small models.
_base_ = './refcoco_448.py'
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='GroundingResize', scale=(256, 256), keep_ratio=False),
    _base_.train_pipeline[-1],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='GroundingResize', scale=(256, 256), keep_ratio=False),
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8, num_workers=1, persistent_workers=False, dataset=dict(pipeline=test_pipeline)
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=False,
    dataset=dict(_base_.val_dataloader.dataset, _delete_=True, pipeline=test_pipeline),
)
