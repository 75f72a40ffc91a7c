# What all zero-shot grounders share. They are tested without training:
#     python tools/test.py CONFIG none
# A leaf names a data base and gives its test data this pipeline, which does not resize: the
# processor of the model does.
custom_imports = dict(imports=['projects.plvl.register'], allow_failed_imports=False)
whole_image_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadGroundingAnnotations'),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
            'text', 'ref_id', 'sent_id', 'ann_id', 'kind', 'with_mask', 'subset',
        ),
    ),
]  # fmt: skip
test_cfg = dict(type='TestLoop')
