# The second stage as released: mmdet's Mask R-CNN from MSRA's ResNet-50 (BGR, norms fixed). mmdet
# downloads the backbone; init_cfg.checkpoint also takes a file.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
)
