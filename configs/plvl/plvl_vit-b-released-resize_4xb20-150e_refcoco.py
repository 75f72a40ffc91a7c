# PLVL Tables 1 and 2, traditional setting: RefCOCO resized as in the released code, by PIL with
# antialiasing, then by torch with aligned corners. Colours change before that, on uint8.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(_base_.train_pipeline[2], backend='pillow'),
    *_base_.released_train_pipeline[3:5],
    _base_.train_pipeline[3],
    *_base_.released_train_pipeline[6:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.released_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_base_.released_test_pipeline))
