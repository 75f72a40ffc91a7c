# The classes of PDSL with small numbers: trains on a CPU in minutes, from nothing. Three stages at
# stride 4, for objects of 20 pixels. Their scores rise late, and they fill most of their boxes, so
# L_ACL would hold masks down as a mean over foreground proposals alone; here it is one over all.
_base_ = ['./pdsl_r18.py']
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        stem_channels=16,
        base_channels=16,
        num_stages=3,
        pools=(1, 1, 0),
        dilations=(1, 1, 2),
        out_indices=(2,),
        norm_cfg=dict(_delete_=True, type='GN', num_groups=8),
        norm_eval=False,
        init_cfg=None,
    ),
    roi_head=dict(
        loss_correlation=dict(average='proposals'),
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[4]),
        bbox_head=dict(
            in_channels=64,
            num_classes=6,
            fc_channels=(256, 256),
            dropout=0.0,
            num_refinements=3,
            init_cfg=None,
        ),
        mask_roi_extractor=dict(out_channels=64, featmap_strides=[4]),
        mask_head=dict(
            num_specific=2,
            num_convs=2,
            in_channels=64,
            conv_out_channels=32,
            num_classes=6,
        ),
    ),
)
