# PLVL Tables 1 and 2, traditional setting: RefCOCO with all values of the released code
_base_ = [
    './_base_/plvl_vit-b_released.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e_released.py',
    './_base_/runtime.py',
]
train_dataloader = dict(
    drop_last=True,  # of an epoch, the batch that is not full
    dataset=dict(pipeline=_base_.released_train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=_base_.released_test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(protocol='released')
test_evaluator = val_evaluator
