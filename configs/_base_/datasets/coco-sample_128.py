# A few images of COCO with their captions, 128 x 128 pixels: COCO_SAMPLE_ROOT holds
# annotations/captions_{train,val}2017.json, train2017/ and val2017/, as COCO itself does.
_base_ = './captions_128.py'
data_root = '{{$COCO_SAMPLE_ROOT:data/coco_sample/}}'
# The pillow backend raises on truncated files; OpenCV fills them with gray.
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    *_base_.test_pipeline[1:],
]
train_pipeline = test_pipeline
dataset = dict(data_root=data_root, pipeline=test_pipeline)
train_dataloader = dict(
    batch_size=40,
    dataset=dict(
        dataset,
        ann_file='annotations/captions_train2017.json',
        data_prefix=dict(img='train2017/'),
    ),
)
# The training images: the question is whether the model can fit them.
val_dataloader = train_dataloader
test_dataloader = dict(
    batch_size=40,
    dataset=dict(
        dataset, ann_file='annotations/captions_val2017.json', data_prefix=dict(img='val2017/')
    ),
)
