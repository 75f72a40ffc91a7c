# Florence-2, not trained: RefCOCO val, testA and testB. Not in the paper.
_base_ = [
    '../_base_/florence2_b.py',
    '../../_base_/datasets/refcoco_448.py',
    '../_base_/runtime.py',
]
train_dataloader = None
val_dataloader = None
val_evaluator = None
test_dataloader = dict(dataset=dict(pipeline={{_base_.whole_image_pipeline}}))
