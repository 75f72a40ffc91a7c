# RefCOCO in the .pth files of TransVG, EEVG and PLVL, at 448 x 448 pixels.
# DATA_ROOT holds unc/unc_{train,val,testA,testB}.pth and images/train2014/. TransVG's files have
# no masks: they train and test boxes only.
_base_ = './refcoco_448.py'
dataset = dict(
    _delete_=True,
    type='TransVGGroundingDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img='images/train2014/'),
)
train_dataloader = dict(
    dataset=dict(dataset, ann_file='unc/unc_train.pth', pipeline=_base_.train_pipeline)
)
val_dataloader = dict(
    dataset=dict(dataset, ann_file='unc/unc_val.pth', pipeline=_base_.test_pipeline, test_mode=True)
)
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='TransVGGroundingDataset',
                data_root=_base_.data_root,
                data_prefix=dict(img='images/train2014/'),
                ann_file=f'unc/unc_{split}.pth',
                subset=f'refcoco_{split}',
                test_mode=True,
            )
            for split in ('val', 'testA', 'testB')
        ]
    )
)
