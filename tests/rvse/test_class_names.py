"""A classifier's classes as words, and a layer that is trained on top of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from PIL import Image
from torch import nn

import projects.rvse.register  # noqa: F401
from projects.common.scenes import generate_scene
from projects.rvse.text import Vocabulary

CLASSES = ['circle', 'square', 'star', 'heart']
CAPTIONS = [f'a {color} {name}' for color in ('red', 'green') for name in CLASSES]


@MODELS.register_module()
class TinyClassifier(nn.Module):
    """Logits (B, 4, 1, 1) of the mean color of the quarters of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 32, stride=32)

    def forward(self, images):
        return 9 * self.conv(images).mean(dim=(2, 3), keepdim=True)


def model(**changes) -> dict:
    return dict(
        type='ClassNameMatcher',
        class_names=CLASSES,
        num_likeliest=2,
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127] * 3, std=[64] * 3),
        backbone=dict(type='TinyClassifier'),
        image_encoder=dict(type='RegionMean'),
        text_encoder=dict(
            type='BiGRUTextEncoder', vocab_size=20, word_channels=8, channels=16,
            pool=dict(type='MeanPool'),
        ),
        similarity=dict(type='CosineSimilarity'),
        loss=dict(type='SelHNLoss'),
        **changes,
    )  # fmt: skip


def build(**changes):
    torch.manual_seed(0)
    built = MODELS.build(model(**changes))
    built.text_encoder.set_vocabulary(Vocabulary.build(CAPTIONS, min_count=1))
    return built.eval()


def test_residual_starts_from_the_names():
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain, trained = build(), build(residual_channels=16)
    trained.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        names = plain.grid_features(images)
        assert torch.equal(trained.grid_features(images), names)
        trained.residual.weight.normal_()
        logits = trained.backbone(images)[:, :, 0, 0]
        standard = (logits - logits.mean(1, keepdim=True)) / logits.std(
            1, keepdim=True, correction=0
        )
        expected = names[:, 0] + standard @ trained.residual.weight.T
        torch.testing.assert_close(trained.grid_features(images)[:, 0], expected, atol=1e-4, rtol=0)
    F.mse_loss(trained.grid_features(images), torch.zeros(3, 1, 16)).backward()
    assert trained.residual.weight.grad.any() and trained.backbone.conv.weight.grad.any()


@pytest.fixture
def runs(tmp_path):
    """A function that trains on eight images and returns the runner."""
    (tmp_path / 'images').mkdir()
    lines = []
    for i, caption in enumerate(CAPTIONS):
        scene = generate_scene(i, seed=0, split='train', image_size=64)
        Image.fromarray(scene.image).save(tmp_path / f'images/{i}.png')
        lines.append(f'{i}.png\t{caption}\n')
    (tmp_path / 'captions.txt').write_text(''.join(lines))

    def run(epochs: int, lr: float, **changes) -> Runner:
        cfg = Config.fromfile('configs/rvse/rvse_tiny_1xb40-60e_coco-sample.py')
        cfg.model = Config(dict(model=model(residual_channels=16))).model
        cfg.work_dir = str(tmp_path / 'work')
        cfg.visualizer.name = cfg.work_dir  # else it logs where a former test's run does
        cfg.log_level = 'WARNING'
        cfg.randomness.seed = 0
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
        cfg.param_scheduler = None
        cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=lr))
        cfg.custom_hooks = [
            dict(type='InitialValidationHook'),
            dict(type='BuildVocabularyHook', min_count=1),
        ]
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            dataset = dict(
                type='CaptionFileMatchingDataset', ann_file=str(tmp_path / 'captions.txt'),
                data_prefix=dict(img=str(tmp_path / 'images')), pipeline=cfg.test_pipeline,
                test_mode=not loader.startswith('train'),
            )  # fmt: skip
            cfg[loader].update(
                dataset=dataset, batch_size=8, num_workers=0, persistent_workers=False
            )
        cfg.update(changes)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return run


def validations(work_dir: Path) -> list[dict]:
    lines = [line for file in work_dir.rglob('scalars.json') for line in file.open()]
    return [each for each in map(json.loads, lines) if 'matching/rsum' in each]


def test_validates_before_training(runs, tmp_path):
    """The recalls of the start come first, and its model stays the best until one is better."""
    runs(epochs=1, lr=0.0)
    before, after = validations(tmp_path / 'work')
    assert (before['step'], after['step']) == (0, 1)
    assert before['matching/rsum'] == after['matching/rsum']
    assert [file.name for file in (tmp_path / 'work').glob('best_*')] == [
        'best_matching_rsum_epoch_0.pth'
    ]
    runs(epochs=2, lr=0.0, resume=True)
    assert sorted(each['step'] for each in validations(tmp_path / 'work')) == [0, 1, 2]
