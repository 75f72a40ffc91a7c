# Grid features that tools/dataset_converters/itm_features.py made, a sample for every caption:
# GRID_ROOT holds {train,dev,test}_ims.npy, _caps.txt and _ids.txt.
_base_ = './f30k_precomp.py'
data_root = '{{$GRID_ROOT:data/grid}}'
train_dataloader = dict(
    batch_size=64, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root))
