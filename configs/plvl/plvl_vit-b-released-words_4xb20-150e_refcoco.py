# PLVL Tables 1 and 2, traditional setting: RefCOCO with the words of the released code: five that
# forbid a crop, and the two that a flip swaps, found anywhere in the sentence.
_base_ = [
    './_base_/plvl_vit-b.py',
    '../_base_/datasets/refcoco_448.py',
    '../_base_/schedules/plvl_150e.py',
    './_base_/runtime.py',
]
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        _base_.train_pipeline[2],
        words=('left', 'right', 'top', 'bottom', 'middle'),
        whole_words=False,
    ),
    dict(_base_.train_pipeline[3], whole_words=False),
    *_base_.train_pipeline[4:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
