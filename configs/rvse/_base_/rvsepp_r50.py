# RVSE++ on images: the cells of a ResNet-50's last map, 8 x 8 for 256 pixels, are its regions.
# The ResNet is trained with the rest, except for its first stage and its batch norms.
# RVSE_RESNET50: its weights, a file or URL; torchvision's by default, downloaded once.
import os

_base_ = './rvsepp.py'
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=os.environ.get('RVSE_RESNET50', 'torchvision://resnet50')
        ),
    ),
)
