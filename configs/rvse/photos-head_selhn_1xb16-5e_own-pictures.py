# Train a linear layer on top of photos.py with SelHN, on your own captions: OWN_ROOT as in
# own_pictures.py. It starts from what photos.py finds without training; the log has the recalls
# before and after. Rate and epochs were chosen on held-out parts of 80 images. Not in the paper.
_base_ = [
    './_base_/photos.py',
    '../_base_/datasets/own_pictures.py',
    '../_base_/schedules/rvse_adamw_5e.py',
    './_base_/runtime.py',
]
model = dict(residual_channels=384, loss=dict(type='SelHNLoss', margin=0.2, eps=0.01))
# as ImageNet's classifiers are tested
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    _base_.test_pipeline[-1],
]
# All captions of an image share a batch: it is encoded once an epoch.
train_dataloader = dict(batch_size=16, dataset=dict(all_captions=True, pipeline=test_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
custom_hooks = [dict(type='InitialValidationHook')]
