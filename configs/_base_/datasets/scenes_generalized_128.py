# Synthetic scenes with sentences about no object, one or several
# (tools/misc/generate_scenes.py --generalized), 128 x 128 pixels.
_base_ = './scenes_128.py'
dataset = dict(
    type='GRefCOCODataset',
    data_root='{{$SCENES_ROOT:data/scenes}}',
    data_prefix=dict(img='images/'),
    ann_file='scenes/instances.json',
    split_file='scenes/grefs(scenes).json',
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(type='GeneralizedGroundingMetric', group_by='kind')
test_evaluator = val_evaluator
