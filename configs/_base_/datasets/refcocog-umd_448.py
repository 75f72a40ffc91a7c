# RefCOCOg, umd split, in the refer layout, at 448 x 448 pixels.
_base_ = './refcoco_448.py'
train_dataloader = dict(
    dataset=dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(umd).p')
)
val_dataloader = dict(
    dataset=dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(umd).p')
)
test_dataloader = dict(
    dataset=dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(umd).p')
)
