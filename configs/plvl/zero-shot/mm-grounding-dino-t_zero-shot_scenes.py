# MM Grounding DINO, not trained: generated scenes, whose sentences have kinds. Not in the paper.
_base_ = [
    '../_base_/mm-grounding-dino_t.py',
    '../../_base_/datasets/scenes_128.py',
    '../_base_/runtime.py',
]
train_dataloader = None
val_dataloader = None
val_evaluator = None
test_dataloader = dict(dataset=dict(pipeline={{_base_.whole_image_pipeline}}))
