# MS COCO: pseudo ground truth of train2017, whose names are relative to it; val2017 for testing.
_base_ = ['./pseudo_views.py', './coco_val.py']
train_dataloader = dict(dataset=dict(data_prefix=dict(img=_base_.data_root + 'train2017/')))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
