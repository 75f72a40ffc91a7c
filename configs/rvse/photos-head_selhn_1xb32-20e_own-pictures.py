# A linear layer behind each of the frozen encoders of photos.py, trained on your own captions with
# SelHN. Not in the paper.
_base_ = [
    './_base_/photos.py',
    '../_base_/datasets/own_pictures.py',
    '../_base_/schedules/rvse_adamw_20e.py',
    './_base_/runtime.py',
]
model = dict(
    _delete_=True,
    type='ImageTextMatcher',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=dict(_base_.model.backbone, logits=False),
    image_encoder=dict(type='RegionFC', in_channels=1280, channels=384, pool=dict(type='MeanPool')),
    text_encoder=dict(_base_.model.text_encoder, channels=384),
    similarity=_base_.model.similarity,
    loss=dict(type='SelHNLoss', margin=0.2, eps=0.01),
)
# as ImageNet's classifiers are tested
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    _base_.test_pipeline[-1],
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
auto_scale_lr = dict(enable=False, base_batch_size=32)
