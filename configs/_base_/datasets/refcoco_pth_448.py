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
    dataset=dict(ann_file='unc/unc_train.pth', pipeline=_base_.train_pipeline, **dataset)
)
val_dataloader = dict(
    dataset=dict(
        ann_file='unc/unc_val.pth', pipeline=_base_.test_pipeline, test_mode=True, **dataset
    )
)
test_dataloader = val_dataloader
