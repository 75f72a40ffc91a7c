# What the released code trains on: COCO's train2014 and valminusminival, which are train2017, and
# tests on: minival, which is val2017; seen as pdsl_views_released.py says.
_base_ = ['./coco_tags.py', './pdsl_views_released.py']
train_pipeline = _base_.released_train_pipeline
test_pipeline = [_base_.test_pipeline[0], _base_.released_proposals, *_base_.test_pipeline[2:]]
tta_pipeline = [_base_.tta_pipeline[0], _base_.released_proposals, *_base_.tta_pipeline[2:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
