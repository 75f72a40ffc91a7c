# The second stage as released: mmdet's Mask R-CNN from MSRA's ResNet-50 (BGR, norms fixed), SGD
# 0.02, 8 GPUs x 2 pictures. mmdet downloads the backbone; init_cfg.checkpoint takes a file, too.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './runtime_iters.py']
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
