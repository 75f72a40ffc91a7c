# Synthetic scenes (tools/misc/generate_scenes.py) with five captions each, 128 x 128 pixels.
_base_ = './captions_128.py'
data_root = '{{$SCENES_ROOT:data/scenes}}'
dataset = dict(data_root=data_root, data_prefix=dict(img='images/'))
train_dataloader = dict(
    batch_size=64,
    drop_last=True,
    dataset=dict(dataset, ann_file='annotations/captions_train.json'),
)
val_dataloader = dict(
    batch_size=64, dataset=dict(dataset, ann_file='annotations/captions_val.json')
)
test_dataloader = dict(
    batch_size=64, dataset=dict(dataset, ann_file='annotations/captions_test.json')
)
