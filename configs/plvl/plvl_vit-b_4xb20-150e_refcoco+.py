# PLVL Tables 1 and 2, traditional setting: RefCOCO+
_base_ = './plvl_vit-b_4xb20-150e_refcoco.py'
train_dataloader = dict(
    dataset=dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
)
val_dataloader = dict(
    dataset=dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
)
test_dataloader = dict(
    dataset=dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
)
