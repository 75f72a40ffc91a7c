"""Smaller images of a config's transforms."""

from mmengine.config import ConfigDict

from projects.common.preflight.image_scale import scale_images


def test_sizes_in_pixels_become_smaller():
    loader = ConfigDict(
        batch_size=4,
        dataset=dict(
            type='ConcatDataset',
            datasets=[
                dict(
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='RandomChoiceResize', scales=[(2000, 480), (2000, 512)]),
                        dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
                        dict(type='mmdet.RandomCrop', crop_size=(0.9, 0.9)),
                        dict(type='CenterCrop', crop_size=224),
                        dict(type='RandomFlip', prob=0.5, scale=7),
                    ]
                )
            ],
        ),
    )
    assert scale_images([loader, None], 0.25) == 3
    steps = loader.dataset.datasets[0].pipeline
    assert [tuple(each) for each in steps[1].scales] == [(500, 120), (500, 128)]
    assert tuple(steps[2].scale) == (333, 200)
    assert tuple(steps[3].crop_size) == (0.9, 0.9)
    assert steps[4].crop_size == 56
    assert steps[5].scale == 7 and loader.batch_size == 4


def test_nothing_to_scale():
    assert scale_images(dict(pipeline=[dict(type='LoadFeatures', scale=3)]), 0.5) == 0
