# RefCOCOg, umd split, in the refer layout, at 448 x 448 pixels.
_base_ = './refcoco_448.py'
dataset = dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(umd).p')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                _base_.dataset,
                split=split,
                subset=f'refcocog-umd_{split}',
                test_mode=True,
                **dataset,
            )
            for split in ('val', 'test')
        ]
    )
)
