# Search photographs without any training: `tools/infer.py retrieval index PHOTOS --model photos`.
# Not in the paper.
_base_ = ['./_base_/photos.py', '../_base_/datasets/own_pictures.py', './_base_/runtime.py']
# as ImageNet's classifiers are tested
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    _base_.test_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
