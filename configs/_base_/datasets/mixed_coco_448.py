# The train splits of RefCOCO, RefCOCO+ and RefCOCOg-umd as one, without any image of their val and
# test splits (the fine-tuning data of the released code), at 448 x 448 pixels. Validated on the
# three val splits; all eight published splits are tested in one run.
_base_ = './refcoco_448.py'
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                _base_.dataset,
                ann_file=f'{folder}/instances.json',
                split_file=f'{folder}/refs({by}).p',
                split=split,
                subset=f'{name}_{split}',
                test_mode=True,
            )
            for name, folder, by, splits in (
                ('refcoco', 'refcoco', 'unc', ('val', 'testA', 'testB')),
                ('refcoco+', 'refcoco+', 'unc', ('val', 'testA', 'testB')),
                ('refcocog-umd', 'refcocog', 'umd', ('val', 'test')),
            )
            for split in splits
        ]
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MixedGroundingDataset',
        pipeline=_base_.test_pipeline,
        datasets=[
            split for split in test_dataloader['dataset']['datasets'] if split['split'] == 'val'
        ],
    )
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MixedGroundingDataset',
        pipeline=_base_.train_pipeline,
        datasets=[
            dict(
                _base_.dataset,
                ann_file=val['ann_file'],
                split_file=val['split_file'],
                split='train',
            )
            for val in val_dataloader['dataset']['datasets']
        ],
        exclude=test_dataloader['dataset']['datasets'],
    )
)
