# The train splits of RefCOCO, RefCOCO+ and RefCOCOg-umd as one, less every picture of their val and
# test splits (what the released code fine-tunes on), at 448 x 448 pixels.
_base_ = './refcoco_448.py'
dataset = dict(
    type='ReferGroundingDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img='images/train2014/'),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MixedGroundingDataset',
        pipeline=_base_.train_pipeline,
        datasets=[
            dict(
                ann_file=f'{name}/instances.json',
                split_file=f'{name}/refs({by}).p',
                split='train',
                **dataset,
            )
            for name, by in (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd'))
        ],
        exclude=[
            dict(
                ann_file=f'{name}/instances.json',
                split_file=f'{name}/refs({by}).p',
                split=split,
                **dataset,
            )
            for name, by, splits in (
                ('refcoco', 'unc', ('val', 'testA', 'testB')),
                ('refcoco+', 'unc', ('val', 'testA', 'testB')),
                ('refcocog', 'umd', ('val', 'test')),
            )
            for split in splits
        ],
    )
)
