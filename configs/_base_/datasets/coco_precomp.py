# MS-COCO with precomputed BUTD regions, 36 per image: DATA_ROOT holds coco_precomp/ with
# {train,dev,testall}_ims.npy, _caps.txt and _ids.txt (113,287, 5,000 and 5,000 images).
# The test gives COCO 5K and, as the mean of five folds (matching/fold/...), COCO 1K.
_base_ = './f30k_precomp.py'
data_root = '{{$DATA_ROOT:data}}/coco_precomp'
train_dataloader = dict(dataset=dict(data_root=data_root))
# The first 1,000 images of dev, as in the released code, decide the best checkpoint.
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root, split='testall'))
test_cfg = dict(type='MatchingTestLoop', num_folds=5)
