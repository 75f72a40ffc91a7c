# RefCOCO+ in the refer layout, at 448 x 448 pixels.
_base_ = './refcoco_448.py'
train_dataloader = dict(
    dataset=dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
)
val_dataloader = dict(
    dataset=dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
)
test_dataloader = dict(
    dataset=dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
)
