# Ref-ZOM (DMMI, Hu et al., ICCV 2023) at 448 x 448 pixels: sentences about no object, one or
# several. It has no val split, so test is validated on.
# DATA_ROOT holds ref-zom/ (instances.json and refs(final).p) and images/.
_base_ = './refcoco_448.py'
dataset = dict(
    type='RefZOMDataset',
    data_root='{{$DATA_ROOT:data/}}',
    data_prefix=dict(img='images/'),
    ann_file='ref-zom/instances.json',
    split_file='ref-zom/refs(final).p',
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dict(**dataset, split='test'))
test_dataloader = dict(
    dataset=dict(datasets=[dict(split='test', subset='refzom_test', test_mode=True, **dataset)]),
)
val_evaluator = dict(type='GeneralizedGroundingMetric')
test_evaluator = val_evaluator
