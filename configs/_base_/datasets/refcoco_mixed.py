# RefCOCO, RefCOCO+ and RefCOCOg-umd in the refer layout, as lists of data sets to mix: the three
# train splits, the three val splits, and all eight published splits for testing.
mixed_splits = dict(
    train=[
        dict(
            type='ReferGroundingDataset',
            data_root='{{$DATA_ROOT:data/}}',
            data_prefix=dict(img='images/train2014/'),
            ann_file=f'{folder}/instances.json',
            split_file=f'{folder}/refs({by}).p',
            split='train',
        )
        for folder, by in (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd'))
    ]
)
mixed_splits['test'] = [
    dict(train, split=split, subset=f'{name}_{split}', test_mode=True)
    for train, name, splits in zip(
        mixed_splits['train'],
        ('refcoco', 'refcoco+', 'refcocog-umd'),
        (('val', 'testA', 'testB'), ('val', 'testA', 'testB'), ('val', 'test')),
    )
    for split in splits
]
mixed_splits['val'] = [test for test in mixed_splits['test'] if test['split'] == 'val']
