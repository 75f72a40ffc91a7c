# PDSL as released, ResNet50-WS
_base_ = './pdsl_r18-released_4xb1-60k_voc12.py'
model = dict(
    backbone=dict(depth=50),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=2048),
        bbox_head=dict(in_channels=2048, fc_channels=(2048, 4096)),
        mask_roi_extractor=dict(out_channels=2048),
        mask_head=dict(in_channels=2048),
    ),
)
