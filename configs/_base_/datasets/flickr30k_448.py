# Flickr30K Entities as its authors publish it, boxes only, at 448 x 448 pixels.
# DATA_ROOT holds flickr30k_entities/ (train.txt, val.txt, test.txt, Annotations/, Sentences/) and
# images/flickr30k/. For TransVG's flickr/flickr_*.pth set type='TransVGGroundingDataset'.
_base_ = './refcoco_448.py'
dataset = dict(
    _delete_=True,
    type='Flickr30kEntitiesDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img='images/flickr30k/'),
)
train_dataloader = dict(
    dataset=dict(ann_file='flickr30k_entities/train.txt', pipeline=_base_.train_pipeline, **dataset)
)
val_dataloader = dict(
    dataset=dict(
        ann_file='flickr30k_entities/val.txt',
        pipeline=_base_.test_pipeline,
        test_mode=True,
        **dataset,
    )
)
test_dataloader = dict(
    dataset=dict(
        ann_file='flickr30k_entities/test.txt',
        pipeline=_base_.test_pipeline,
        test_mode=True,
        **dataset,
    )
)
