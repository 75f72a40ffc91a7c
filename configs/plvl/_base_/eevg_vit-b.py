# EEVG (Chen et al., ECCV 2024): its own decoder and head behind PLVL's text encoder and a ViTDet-B
# that sees no language.
_base_ = './plvl_vit-b.py'
model = dict(
    type='EEVG',
    backbone=dict(language_indexes=()),
    decoder=dict(
        _delete_=True,
        type='TokenEliminationDecoder',
        channels=768,
        num_layers=3,
        threshold=0.015,  # 0.0015 to fine-tune a pre-trained model
    ),
    head=dict(
        _delete_=True,
        type='TokenMLPHead',
        in_channels=768,
        hidden_channels=768,
        loss_bbox=dict(type='mmdet.L1Loss'),
        loss_iou=dict(type='mmdet.GIoULoss'),
        loss_mask=dict(type='mmdet.FocalLoss'),
        loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0),
        det_weight=0.1,
        seg_weight=1.0,
    ),
)
