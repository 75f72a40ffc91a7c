"""Defects that the projects' recipes of paper size once had each make tools/preflight.py fail.

The configs are those of paper size; only sizes are cut, so that a test takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn

import projects.pdsl.preflight
import projects.pdsl.register
import projects.plvl.preflight
import projects.plvl.register
import projects.rvse.preflight
import projects.rvse.register  # noqa: F401
from projects.common.cli.run import prepare
from projects.common.preflight import RELEASED_RESNET18
from projects.common.preflight.report import Options, Report
from projects.common.preflight.run import preflight
from projects.pdsl.models import PDSLMaskHead

CONFIGS = Path(__file__).parents[2] / 'configs'
PDSL = 'pdsl/pdsl_r18_4xb1-100k_voc12.py'
PLVL = 'plvl/plvl_vit-b_4xb20-150e_refcoco.py'

# a ResNet-18, 40 proposals in images of 64 pixels, thin layers, fewer heads
SMALL_PDSL = {
    'model.roi_head.bbox_head.num_refinements': 2,
    'model.roi_head.mask_head.num_specific': 2,
    'model.roi_head.bbox_head.fc_channels': (64, 64),
    'model.roi_head.mask_head.num_convs': 1,
    'model.roi_head.mask_head.conv_out_channels': 32,
    'model.roi_head.num_seeds': 2,
    'model.cue.max_side': 32,
    'train_dataloader.dataset.pipeline.1.max_proposals': 40,
    'train_dataloader.dataset.pipeline.3.scales': [(400, 64)],
    'val_dataloader.dataset.pipeline.1.max_proposals': 20,
    'val_dataloader.dataset.pipeline.2.scale': (400, 64),
}
SUMS = {f'model.roi_head.loss_{name}.reduction': 'sum' for name in ('mil', 'refine', 'mask')}
SMALL_PLVL = {
    'model.text_encoder.bert': dict(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    ),
    'model.backbone.text_channels': 32,
    'model.backbone.channels': 64,
    'model.backbone.depth': 3,
    'model.backbone.num_heads': 2,
    'model.backbone.global_indexes': (2,),
    'model.backbone.language_indexes': (2,),
    'model.decoder.visual_channels': 64,
    'model.decoder.text_channels': 32,
    'model.decoder.channels': 32,
    'model.head.in_channels': 32,
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / 'images'
    folder.mkdir()
    for i in range(4):
        pixels = np.full((120, 160, 3), rng.integers(256, size=3), np.uint8)
        pixels[30:80, 40:110] = rng.integers(256, size=3)
        Image.fromarray(pixels).save(folder / f'{i}.png')
    return folder


@pytest.fixture
def look(images: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv('PDSL_PRETRAINED', raising=False)

    def run(
        config: str,
        overrides: dict,
        steps: int = 3,
        like: tuple[float, float] | None = RELEASED_RESNET18,
        validate: bool = False,
    ) -> Report:
        cfg = Config.fromfile(CONFIGS / config)
        cfg.merge_from_dict(overrides)
        prepare(cfg, config, 'none', 'unused')
        options = Options(
            steps=steps,
            images=str(images),
            like_pretrained=like,
            batch_size=2,
            validate=validate,
        )
        return preflight(cfg, Path(config).stem, options)

    return run


def failures(report: Report) -> str:
    return ' | '.join(report.findings.failures)


def test_pdsl_passes(look):
    report = look(PDSL, SMALL_PDSL, steps=4, validate=True)
    assert report.findings.passed, failures(report)
    first = {term.name: term for term in report.terms}
    assert first['loss_mask0'].value == pytest.approx(np.log(2), rel=0.02)
    assert 'coco/segm_mAP_50' in report.kept


def kaiming(self: PDSLMaskHead) -> None:
    """fan_out of a convolution with one output: a standard deviation of 1.41."""
    for layer in self.prediction_layers():
        nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')


def test_sums_at_the_papers_learning_rate_fail(look):
    """Sums over proposals and pixels, with the learning rate that belongs to means."""
    text = failures(look(PDSL, {**SMALL_PDSL, **SUMS}, steps=8))
    assert 'the loss is nan' in text or 'does not fall' in text


def test_large_start_values_of_the_mask_head_fail(look, monkeypatch):
    """A first cross-entropy of the masks far above log 2, beside whose sum L_ACL does not count."""
    monkeypatch.setattr(PDSLMaskHead, 'init_weights', kaiming)
    text = failures(look(PDSL, SMALL_PDSL, steps=1))
    assert 'loss_mask0 starts at' in text and 'start values of its last layer' in text
    text = failures(look(PDSL, {**SMALL_PDSL, **SUMS}, steps=1))
    assert 'loss_correlation1 has' in text and 'it is not learnt from' in text


def test_another_number_of_classes_fails(look):
    overrides = {**SMALL_PDSL, 'model.roi_head.mask_head.num_classes': 21}
    found = failures(look(PDSL, overrides, steps=1))
    assert 'its data set has 20 classes' in found
    assert 'roi_head.mask_head.num_classes is 21' in found


def test_plvl_passes_and_a_decay_that_ends_at_zero_fails(look):
    report = look(PLVL, SMALL_PLVL, steps=4, like=None, validate=True)
    assert report.findings.passed, failures(report)
    assert [group.rates[0] for group in report.groups] == pytest.approx([2.5e-5, 1e-5, 5e-6])
    assert all(group.rates[2] == pytest.approx(group.rates[0] * 0.0110032, rel=1e-4)
               for group in report.groups)  # fmt: skip
    poly = dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=150, by_epoch=True)
    text = failures(look(PLVL, {**SMALL_PLVL, 'param_scheduler': [poly]}, steps=1, like=None))
    assert 'the last epoch has a learning rate of 0' in text


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ({'default_hooks.checkpoint.save_best': None}, 'the best weights are deleted'),
        ({'param_scheduler.0.end': 150, 'train_cfg.max_epochs': 20}, 'end: 150, after the 20'),
        (
            {'optim_wrapper.paramwise_cfg.custom_keys': {
                'text_encoder': dict(lr_mult=0.2), 'backbone': dict(lr_mult=0.4),
                'adapter': dict(lr_mult=1.0)}},
            "'adapter' takes effect nowhere: the longer key 'backbone' wins",
        ),
        ({'model.head.det_weight': 1e-9}, 'loss_center has'),
    ],
    ids=['best deleted', 'schedule stays', 'beaten key', 'lost task'],
)  # fmt: skip
def test_defects_of_plvl_fail(override, expected, look):
    assert expected in failures(look(PLVL, {**SMALL_PLVL, **override}, steps=1, like=None))


def test_weights_of_another_model_end_it(look, tmp_path):
    torch.save({'some.weight': torch.zeros(2, 2)}, tmp_path / 'other.pth')
    overrides = {**SMALL_PLVL, 'load_from': str(tmp_path / 'other.pth')}
    with pytest.raises(ValueError, match='0 of .* tensors of PLVL match'):
        look(PLVL, overrides, steps=1)


def test_rvse_passes(look):
    small = {'model.image_encoder.channels': 32, 'model.text_encoder.channels': 32}
    report = look('rvse/vse-fc_selhn_1xb128-20e_f30k.py', small)
    assert report.findings.passed, failures(report)
    (term,) = report.terms
    # all similarities are equal: each of B - 1 negatives costs the margin, divided by B (Eq. 12)
    assert term.chance == pytest.approx(0.2 * (2 - 1) / 2)
