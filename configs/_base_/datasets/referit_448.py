# ReferItGame in TransVG's .pth files, boxes only, at 448 x 448 pixels.
# DATA_ROOT holds referit/referit_{train,val,test}.pth and images/saiapr/.
_base_ = './refcoco_448.py'
dataset = dict(
    _delete_=True,
    type='TransVGGroundingDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img='images/saiapr/'),
)
train_dataloader = dict(
    dataset=dict(ann_file='referit/referit_train.pth', pipeline=_base_.train_pipeline, **dataset)
)
val_dataloader = dict(
    dataset=dict(
        ann_file='referit/referit_val.pth', pipeline=_base_.test_pipeline, test_mode=True, **dataset
    )
)
test_dataloader = dict(
    dataset=dict(
        ann_file='referit/referit_test.pth',
        pipeline=_base_.test_pipeline,
        test_mode=True,
        **dataset,
    )
)
