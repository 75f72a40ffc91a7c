# gRefCOCO (GRES, Liu et al., CVPR 2023) at 448 x 448 pixels: sentences about no object, one or
# several. Validated on val; val, testA and testB are tested in one run.
# DATA_ROOT holds grefcoco/ (instances.json and grefs(unc).json) and images/.
_base_ = './refcoco_448.py'
dataset = dict(
    type='GRefCOCODataset',
    data_root='{{$DATA_ROOT:data/}}',
    data_prefix=dict(img='images/train2014/'),
    ann_file='grefcoco/instances.json',
    split_file='grefcoco/grefs(unc).json',
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(split=split, subset=f'grefcoco_{split}', test_mode=True, **dataset)
            for split in ('val', 'testA', 'testB')
        ],
    ),
)
val_evaluator = dict(type='GeneralizedGroundingMetric')
test_evaluator = val_evaluator
