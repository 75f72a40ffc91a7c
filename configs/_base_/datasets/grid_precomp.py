# Grid features that tools/dataset_converters/itm_features.py has extracted, one sample for each
# caption, drawn without end for schedules that count iterations.
# GRID_ROOT holds {train,dev,test}_ims.npy, _caps.txt and _ids.txt.
_base_ = './f30k_precomp.py'
data_root = '{{$GRID_ROOT:data/grid}}'
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
    dataset=dict(data_root=data_root),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root))
