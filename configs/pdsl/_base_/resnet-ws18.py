# ResNet18-WS as an image classifier, for pre-training on ImageNet (PDSL, section 4.3).
custom_imports = dict(imports=['projects.pdsl.register'], allow_failed_imports=False)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='ResNetWS', depth=18, pools=(2, 2, 0, 0), dilations=(1, 1, 1, 1), norm_eval=False
    ),
    neck=dict(type='DANNeck', in_channels=512, fc_channels=(4096, 4096)),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=4096,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    ),
)
