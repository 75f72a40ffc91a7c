# RefCOCO in SeqTR's json, at 448 x 448 pixels.
# DATA_ROOT holds refcoco-unc/instances.json and images/train2014/.
_base_ = './refcoco_448.py'
dataset = dict(
    _delete_=True,
    type='SeqTRGroundingDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img='images/train2014/'),
    ann_file='refcoco-unc/instances.json',
)
train_dataloader = dict(dataset=dict(dataset, split='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(dataset, split='val', pipeline=_base_.test_pipeline, test_mode=True)
)
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='SeqTRGroundingDataset',
                data_root=_base_.data_root,
                data_prefix=dict(img='images/train2014/'),
                ann_file='refcoco-unc/instances.json',
                split=split,
                subset=f'refcoco_{split}',
                test_mode=True,
            )
            for split in ('val', 'testA', 'testB')
        ]
    )
)
