# PLVL Tables 1 and 2, traditional setting: RefCOCO+
_base_ = './plvl_vit-b_4xb20-150e_refcoco.py'
split = dict(ann_file='refcoco+/instances.json', split_file='refcoco+/refs(unc).p')
train_dataloader = dict(dataset=split)
val_dataloader = dict(dataset=split)
test_dataloader = dict(dataset=split)
