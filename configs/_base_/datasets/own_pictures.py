# Your own images: OWN_ROOT holds train.txt, val.txt and test.txt, an image's name, a tab and a
# caption on each line, and images/.
_base_ = './f30k_pictures.py'
data_root = '{{$OWN_ROOT:data/own}}'
dataset = dict(
    _delete_=True,
    type='CaptionFileMatchingDataset',
    data_root=data_root,
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    dataset=dict(ann_file='train.txt', pipeline=_base_.train_pipeline, **dataset)
)
val_dataloader = dict(
    dataset=dict(ann_file='val.txt', pipeline=_base_.test_pipeline, test_mode=True, **dataset)
)
test_dataloader = dict(
    dataset=dict(ann_file='test.txt', pipeline=_base_.test_pipeline, test_mode=True, **dataset)
)
