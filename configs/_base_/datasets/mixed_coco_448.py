# The train splits of RefCOCO, RefCOCO+ and RefCOCOg-umd as one, without any image of their val and
# test splits (the fine-tuning data of the released code), at 448 x 448 pixels. Validated on the
# three val splits; all eight published splits are tested in one run.
_base_ = ['./refcoco_448.py', './refcoco_mixed.py']
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MixedGroundingDataset',
        pipeline=_base_.train_pipeline,
        datasets=_base_.mixed_splits.train,
        exclude=_base_.mixed_splits.test,
    )
)
val_dataloader = dict(
    dataset=dict(_base_.test_dataloader.dataset, datasets=_base_.mixed_splits.val, _delete_=True)
)
test_dataloader = dict(dataset=dict(datasets=_base_.mixed_splits.test))
