# MS-COCO's images, without features: DATA_ROOT holds coco/dataset_coco.json (Karpathy's split:
# 113,287, 5,000 and 5,000 images), coco/train2014/ and coco/val2014/.
# The test gives COCO 5K and, as the mean of five folds (matching/fold/...), COCO 1K.
_base_ = './f30k_pictures.py'
data_root = '{{$DATA_ROOT:data}}/coco'
dataset = dict(
    ann_file='dataset_coco.json',
    data_root=data_root,
    data_prefix=dict(img=''),
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
test_cfg = dict(type='MatchingTestLoop', num_folds=5)
