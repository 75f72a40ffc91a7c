# PLVL with ViTDet-B and BERT-base (paper, sections 3 and 4.1).
# PLVL_BERT: folder or hub id of BERT-base weights (bert-base-uncased).
# PLVL_VOCAB: a vocab.txt, if they come without one.
# PLVL_VITDET: a checkpoint of LanguageGuidedViT with ViTDet-B's weights, or the ViT of another
# maker (projects/plvl/README.md).
# Without weights, the model starts from random ones and logs that it does.
import os

model = dict(
    type='PLVL',
    data_preprocessor=dict(
        type='GroundingDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    text_encoder=dict(
        type='BERTTextEncoder',
        pretrained=os.environ.get('PLVL_BERT'),
        vocab_file=os.environ.get('PLVL_VOCAB'),
        max_tokens=40,
    ),
    backbone=dict(
        type='LanguageGuidedViT',
        patch_size=16,
        channels=768,
        depth=12,
        num_heads=12,
        window_size=14,
        global_indexes=(2, 5, 8, 11),
        language_indexes=(2, 5, 8, 11),
        drop_path_rate=0.1,
        pretrained=os.environ.get('PLVL_VITDET'),
    ),
    decoder=dict(type='LanguageFusionDecoder', channels=512, num_layers=3),
    head=dict(
        type='CollaborativeHead',
        in_channels=512,
        groups=(('center', 'mask'), ('offset', 'size')),
        norm_cfg=dict(type='BN'),
        loss_center=dict(type='CenterFocalLoss'),
        loss_bbox=dict(type='mmdet.L1Loss'),
        loss_iou=dict(type='mmdet.GIoULoss'),
        loss_mask=dict(type='mmdet.FocalLoss'),
        loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0),
        det_weight=0.1,
        seg_weight=1.0,
    ),
)
custom_imports = dict(imports=['projects.plvl.register'], allow_failed_imports=False)
custom_hooks = [dict(type='LearnVocabularyHook', vocab_size=30522)]
