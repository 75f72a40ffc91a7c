"""tools/preflight.py: each defect that it is there for makes it fail, and a sound recipe passes."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from PIL import Image
from torch import nn
from torch.nn import functional as F

from projects.common.cli.config import load_config
from projects.common.cli.run import prepare
from projects.common.preflight.findings import Findings
from projects.common.preflight.page import page, table_row
from projects.common.preflight.recipe import check_kept, check_parameters
from projects.common.preflight.report import Options, Report
from projects.common.preflight.run import preflight
from projects.common.preflight.simplify import VALIDATED, few_samples
from projects.common.preflight.terms import Term, loss_terms, measure_terms, prediction_layers
from projects.common.preflight.verdict import loss_falls

SOUND = (
    "model = dict(type='ToyModel', dropout=0.0)\n"
    "param_scheduler = dict(type='PolynomialLR', power=0.9, end=24, by_epoch=False)\n"
)


@MODELS.register_module()
class ToyClassifier(BaseModel):
    """A softmax over three classes and one output that is nearly never learnt from."""

    def __init__(self, scale: float = 0.1, weight: float = 1.0, num_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.fc_cls = nn.Linear(8, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=scale)
        self.other = nn.Linear(8, 1)
        self.unused = nn.Linear(2, 2)
        self.weight = weight

    def forward(self, inputs, target, mode='tensor'):
        hidden = self.body(inputs)
        logits = self.fc_cls(hidden)
        if mode == 'loss':
            cls = F.cross_entropy(logits, target.long())
            return dict(loss_cls=cls, loss_other=self.weight * self.other(hidden).square().mean())
        return [dict(pred_value=o, gt_value=t) for o, t in zip(logits[:, 0], target)]


def look(config: Path, overrides: dict | None = None, **options) -> Report:
    cfg = load_config(config, overrides)
    prepare(cfg, str(config), 'none', 'unused')
    return preflight(cfg, config.stem, Options(**options))


def failures(report: Report) -> str:
    return ' | '.join(report.findings.failures)


# ------------------------------------------------------------------------------------ the terms


def test_terms_by_hand():
    torch.manual_seed(0)
    model = ToyClassifier()
    inputs, target = torch.randn(6, 4), torch.tensor([0.0, 1, 2, 0, 1, 2])
    before = {name: p.clone() for name, p in model.named_parameters()}
    terms, gradients = measure_terms(model, lambda: model(inputs, target, 'loss'))
    assert [term.name for term in terms] == ['loss_cls', 'loss_other']
    assert terms[0].chance == pytest.approx(math.log(3))
    losses = model(inputs, target, 'loss')
    for term in terms:
        model.zero_grad()
        losses[term.name].backward(retain_graph=True)
        squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
        assert term.value == pytest.approx(losses[term.name].item())
        assert term.gradient == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-5)
    assert sum(term.share for term in terms) == pytest.approx(1)
    assert sum(term.gradient_share for term in terms) == pytest.approx(1)
    model.zero_grad()
    sum(model(inputs, target, 'loss').values()).backward()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
        if p.grad is None:
            assert name.startswith('unused')
        else:
            torch.testing.assert_close(gradients[name], p.grad)


def test_lists_of_losses_add_up_as_in_mmengine():
    losses = dict(loss_cls=[torch.tensor([1.0, 3.0]), torch.tensor(4.0)], acc=torch.tensor(50.0))
    assert loss_terms(losses) == {'loss_cls': torch.tensor(6.0)}
    _, log = BaseModel.parse_losses(None, losses)
    assert log['loss'] == loss_terms(losses)['loss_cls']


def test_a_module_names_its_prediction_layers_itself():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(2, 2)
            self.fc_cls = nn.Linear(2, 2)

        def prediction_layers(self):
            return [self.out]

    head = Head()
    assert prediction_layers(nn.Sequential(head)) == [head.out]
    del Head.prediction_layers
    assert prediction_layers(nn.Sequential(head)) == [head.fc_cls]


def test_a_loss_says_its_own_chance_value():
    class Loss(nn.Module):
        chance_value = 0.25

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)
            self.loss_box = Loss()

    model = Model()
    terms, _ = measure_terms(model, lambda: {'loss_box': model.layer(torch.ones(1, 2)).square()})
    assert terms[0].chance == 0.25


# ------------------------------------------------------------------------------------ the recipe


def test_a_sound_recipe_passes(toy_config):
    report = look(toy_config(SOUND))
    assert report.findings.passed, failures(report)
    assert len(report.totals) == 10 and report.again < report.terms[0].value
    assert report.steps_in_all == 24
    (group,) = report.groups
    assert group.rates[0] == 0.01 and 0 < group.rates[2] < group.rates[1] < 0.01
    assert 'toy/score' in report.kept
    text = page(report)
    assert 'Verdict: this recipe is going to learn' in text
    assert table_row(report).endswith('| pass |\n')


@pytest.mark.parametrize(
    ('extra', 'expected'),
    [
        # PolyLR divides by end - begin - 1
        (SOUND.replace('PolynomialLR', 'PolyLR'), 'the learning rate is 0 at the last step'),
        (
            SOUND + "param_scheduler = dict(type='PolyLR', power=0.9, begin=0, end=4)\n",
            "the last epoch has a learning rate of 0; type='PolynomialLR' has none",
        ),
        (SOUND.replace('end=24', 'end=40'), 'end: 40, after the 24 iterations of training'),
        (SOUND.replace('end=24', 'end=12'), 'end: 12, before the 24 iterations of training'),
        (
            SOUND + "param_scheduler = dict(type='MultiStepLR', milestones=[2, 9])\n",
            'milestones: 9, which is never reached in the 4 epochs of training',
        ),
        (
            SOUND + "default_hooks = dict(checkpoint=dict(save_best=None, max_keep_ckpts=2))\n",
            'the best weights are deleted',
        ),
        (
            SOUND + "default_hooks = dict(checkpoint=dict(save_best='toy/accuracy'))\n",
            "save_best='toy/accuracy': validation gives no such metric; it gives toy/score",
        ),
        (
            SOUND + 'train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=4)\n',
            'the only validation',
        ),
        (SOUND + 'train_cfg = dict(by_epoch=True, max_epochs=4, val_begin=9)\n', 'unvalidated'),
        (SOUND + "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.0))\n", 'does not fall'),
        (SOUND + "optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e9))\n", 'the loss is '),
        (
            SOUND
            + "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01), paramwise_cfg=dict("
            "custom_keys={'0': dict(lr_mult=2.0), 'layers': dict(lr_mult=0.5)}))\n",
            "'0' takes effect nowhere: the longer key 'layers' wins, as for layers.0.",
        ),
        (
            SOUND
            + "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01), paramwise_cfg=dict("
            "custom_keys={'backbone': dict(lr_mult=2.0)}))\n",
            "no parameter has 'backbone' in its name",
        ),
    ],
    ids=['zero', 'zero epoch', 'late end', 'early end', 'milestone', 'best deleted', 'no metric',
         'one validation', 'never validated', 'no fall', 'diverges', 'beaten key', 'unknown key'],
)  # fmt: skip
def test_a_defect_of_the_recipe_fails(extra, expected, toy_config):
    report = look(toy_config(extra), steps=4)
    assert expected in failures(report)
    assert 'Verdict: do not train yet' in page(report)


@pytest.mark.parametrize(
    ('model', 'expected'),
    [
        ('scale=300.0', 'predictions that know nothing give 1.099'),
        ('weight=1e-7', 'loss_other has'),
        ("weight=float('nan')", 'loss_other is nan on the first batch'),
    ],
)
def test_a_defect_of_the_model_fails(model, expected, toy_config):
    text = SOUND.splitlines()[1] + f"\nmodel = dict(type='ToyClassifier', _delete_=True, {model})\n"
    config = toy_config(text.replace(', _delete_=True', ''))
    report = look(config, steps=2)
    assert expected in failures(report)


def test_parameters_without_gradient_are_named(toy_config):
    report = look(toy_config(SOUND + "model = dict(type='ToyClassifier')\n"), steps=2)
    assert any('unused.weight' in text for text in report.findings.warnings)
    assert report.findings.passed, failures(report)


def test_validation_reads_few_samples():
    importlib.import_module('projects.plvl.register')
    refer, boxes = dict(type='ReferGroundingDataset'), dict(type='mmdet.CocoDataset', indices=2)
    dataset = ConfigDict(
        type='ConcatDataset', datasets=[refer, dict(type='RepeatDataset', dataset=boxes)]
    )
    few_samples(dataset)
    first, second = dataset.datasets
    assert first.indices == VALIDATED and second.dataset.indices == 2
    assert 'indices' not in dataset and 'indices' not in second


def test_a_parameter_that_no_group_holds():
    model = ToyClassifier()

    class Runner:
        pass

    runner = Runner()
    runner.model = model
    runner.optim_wrapper = type(
        'Wrapper', (), {'param_groups': [dict(params=list(model.body.parameters()), lr=1.0)]}
    )()
    findings = Findings()
    check_parameters(Config(dict(optim_wrapper=dict())), runner, findings)
    assert 'are in no group of the optimizer, the first is fc_cls.weight' in findings.failures[0]


def test_classes_of_heads_and_data(toy_config, monkeypatch):
    config = toy_config(SOUND + "model = dict(type='ToyClassifier')\n")
    toy = sys.modules['toy']
    monkeypatch.setattr(toy.ToyDataset, 'metainfo', dict(classes=('a', 'b')), raising=False)
    head = ToyClassifier.__init__

    def with_number(self, *args, **kwargs):
        head(self, *args, **kwargs)
        self.fc_cls.num_classes = 3

    monkeypatch.setattr(ToyClassifier, '__init__', with_number)
    report = look(config, steps=2)
    assert 'its data set has 2 classes (a, b), but fc_cls.num_classes is 3' in failures(report)


def test_absent_data_and_absent_weights(toy_config, tmp_path):
    gone = SOUND + f"train_dataloader['dataset']['data_root'] = '{tmp_path}/gone'\n"
    with pytest.raises(ValueError, match=r'gone: no such folder; --images DIR judges'):
        look(toy_config(gone))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='no labels can be made up for ToyDataset'):
        look(toy_config(gone), images=str(tmp_path))
    weights = SOUND + f"load_from = '{tmp_path}/gone.pth'\n"
    assert 'gone.pth: no such file; --like-pretrained' in failures(look(toy_config(weights)))
    report = look(toy_config(weights), like_pretrained=(1.0, 1.0), steps=4)
    assert report.findings.passed, failures(report)


def test_the_tool(toy_config, call_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = toy_config(SOUND)
    done = call_tool('preflight.py', config, '--steps', 3, '--table', tmp_path / 'table.md')
    assert 'Verdict: this recipe is going to learn' in done.out
    assert (tmp_path / 'table.md').read_text().count('\n') == 3
    done = call_tool('preflight.py', config, '--cfg-options', 'param_scheduler.type=PolyLR', rc=1)
    assert 'the learning rate is 0 at the last' in done.out
    assert not (tmp_path / 'preflight').exists()  # nothing is left behind
    done = call_tool('preflight.py', config, '--steps', 0, rc=2)
    assert '--steps 0: expected 1 or more' in done.err
    done = call_tool('preflight.py', config, '--image-scale', 2, rc=2)
    assert '--image-scale 2: expected more than 0 and at most 1' in done.err
    done = call_tool('preflight.py', config, '--image-scale', 0.5, rc=1)
    assert '--image-scale 0.5: no transform of this config resizes or crops' in done.err


def test_each_of_several_configs_has_a_process(toy_config, call_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound = toy_config(SOUND)
    nothing = tmp_path / 'nothing.py'
    nothing.write_text('model = dict()\n')
    killed = tmp_path / 'killed.py'
    killed.write_text('import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n')
    table = tmp_path / 'table.md'
    call_tool('preflight.py', nothing, killed, sound, '--steps', 3, '--table', table, rc=1)
    rows = table.read_text().splitlines()[2:]
    assert [row.split('`')[1] for row in rows] == ['nothing', 'killed', Path(sound).stem]
    assert "no 'train_cfg': nothing to train" in rows[0]
    assert 'killed, as happens where memory is short' in rows[1]
    assert rows[2].endswith('| pass |')
    call_tool('preflight.py', sound, sound, '--steps', 3)


def test_terms_that_a_model_mines(toy_config):
    """A small gradient at first is by design, none at all is not."""
    small = SOUND + "model = dict(type='ToyClassifier', weight=1e-6)\n"
    assert 'loss_other has' in failures(look(toy_config(small)))
    miner = type(
        'ToyMiner',
        (ToyClassifier,),
        {'mined_losses': {'other': 'so'}, 'late_losses': {'other': 'so'}},
    )
    MODELS.register_module('ToyMiner', force=True, module=miner)
    report = look(toy_config(small.replace('ToyClassifier', 'ToyMiner')))
    assert report.findings.passed, failures(report)
    assert 'loss_other: less than 1e-04 of the gradient at first, by design: so' in page(report)
    assert 'without the terms that are mined' in page(report)
    assert ', given labels ' in table_row(report)
    none = small.replace('ToyClassifier', 'ToyMiner').replace('1e-6', '0.0')
    assert 'loss_other has 0.0e+00' in failures(look(toy_config(none)))


@pytest.mark.parametrize(
    ('given', 'mined', 'falls'),
    [
        ((0.5, 0.4), (1.0, 3.0), True),  # more is found, and counts more
        ((0.5, 0.6), (1.0, 3.0), False),
        ((0.5, 0.6), (1.0, 0.5), True),
        ((0.5, 0.4), (1.0, 8.0), False),  # out of bounds
    ],
)
def test_falling_where_labels_are_mined(given, mined, falls):
    report = Report('mined', totals=[sum(pair) for pair in zip(given, mined)])
    report.terms = [
        Term('loss_given', given[0], later_value=given[1]),
        Term('loss_mined', mined[0], later_value=mined[1], mined='as it is'),
    ]
    report.again = given[1] + mined[1]
    assert report.given == given
    assert loss_falls(report, one_batch=True) == falls
    for term in report.terms:  # where the data gives all labels, the sum has to fall
        term.mined = None
    assert loss_falls(report, one_batch=True) == (report.again < given[0] + mined[0])


@pytest.mark.parametrize(('silent', 'passed'), [({'coco'}, True), ({'other'}, False)])
def test_validation_without_predictions_tells_nothing(silent, passed):
    """mmdet's metrics give no names where nothing is detected."""
    cfg = Config(
        dict(
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='coco/segm_mAP')),
            train_cfg=dict(max_iters=100, val_interval=10),
            val_cfg=dict(),
            val_dataloader=dict(),
        )
    )
    findings = Findings()
    check_kept(cfg, {'voc12/mAP'}, findings, silent)
    assert findings.passed == passed
    assert len(findings.warnings) == passed


def test_chance_where_a_model_takes_gradients_itself():
    """As in PDSL's cascade, whose masks are gradients of logits."""
    model = nn.Module()
    model.fc_cls = nn.Linear(2, 1)

    def forward():
        image = torch.ones(1, 2, requires_grad=True)
        with torch.enable_grad():
            logits = model.fc_cls(image)
            (gradient,) = torch.autograd.grad(logits.sum(), image, retain_graph=True)
        return {'loss_cls': logits.square().sum() + gradient.square().sum().detach()}

    terms, _ = measure_terms(model, forward)
    assert terms[0].chance == 0 < terms[0].value
