# PDSL as released, ResNet50-WS
_base_ = [
    './_base_/pdsl_r18_released.py',
    '../_base_/datasets/voc2012_sbd_tags_released.py',
    '../_base_/schedules/pdsl_sgd_60k_released.py',
    './_base_/runtime_iters.py',
]
model = dict(
    backbone=dict(depth=50),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=2048),
        bbox_head=dict(in_channels=2048, fc_channels=(2048, 4096)),
        mask_roi_extractor=dict(out_channels=2048),
        mask_head=dict(in_channels=2048),
    ),
)
