# PLVL Tables 1 and 2, traditional setting: RefCOCOg, google split
_base_ = './plvl_vit-b_4xb20-150e_refcoco.py'
train_dataloader = dict(
    dataset=dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(google).p')
)
val_dataloader = dict(
    dataset=dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(google).p')
)
test_dataloader = dict(
    dataset=dict(ann_file='refcocog/instances.json', split_file='refcocog/refs(google).p')
)
