# PDSL with ResNet18-WS in the paper's semantics (sections 3 and 4.3), for VOC's 20 classes; losses
# are means, to which the learning rate belongs (each loss's reduction='sum': the paper's sums).
# PDSL_PRETRAINED: a checkpoint of configs/pdsl/pretrain or the released backbone, converted by
# tools/model_converters/pdsl.py, of the same depth. Without it backbone and fully connected layers
# start from random weights, with which VOC is not learned.
import os

model = dict(
    type='PDSL',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[102.98, 115.95, 122.77],  # BGR, as the released backbones were trained
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=8,
    ),
    backbone=dict(
        type='ResNetWS',
        depth=18,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=os.environ.get('PDSL_PRETRAINED')
        and dict(type='Pretrained', checkpoint=os.environ['PDSL_PRETRAINED'], prefix='backbone.'),
    ),
    cue=dict(type='GrabCutCue'),
    roi_head=dict(
        type='PDSLRoIHead',
        loss_mil=dict(type='MILLoss'),
        loss_refine=dict(type='RefinementLoss'),
        loss_mask=dict(type='PseudoMaskLoss'),
        loss_correlation=dict(type='InstanceCorrelationLoss'),
        miner=dict(type='TopBoxMiner'),
        assigner=dict(type='OverlapAssigner', iou_thr=0.5),
        num_seeds=10,
        bbox_roi_extractor=dict(
            type='PortableRoIExtractor',
            roi_layer=dict(type='RoIPool', output_size=7),
            out_channels=512,
            featmap_strides=[8],
        ),
        bbox_head=dict(
            type='PDSLBoxHead',
            in_channels=512,
            num_classes=20,
            fc_channels=(4096, 4096),
            num_refinements=4,
            init_cfg=os.environ.get('PDSL_PRETRAINED')
            and dict(type='Pretrained', checkpoint=os.environ['PDSL_PRETRAINED'], prefix='neck.'),
        ),
        mask_roi_extractor=dict(
            type='PortableRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=512,
            featmap_strides=[8],
        ),
        mask_head=dict(
            type='PDSLMaskHead',
            num_specific=4,
            in_channels=512,
            num_classes=20,
        ),
    ),
    test_cfg=dict(
        rcnn=dict(
            score_thr=1e-5,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        )
    ),
)
tta_model = dict(type='PDSLTTAModel')
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
