"""Options of tools/train.py that add hooks and visualisation backends."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from mmengine.config import Config

from projects.common.errors import InputError


@pytest.fixture(scope='module')
def train(repo_root):
    spec = importlib.util.spec_from_file_location('train_tool', repo_root / 'tools/train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(**checkpoint):
    return Config(
        dict(
            custom_hooks=[dict(type='GradientNormHook')],
            default_hooks=dict(checkpoint=dict(type='AtomicCheckpointHook', **checkpoint)),
        )
    )


@pytest.fixture
def hooks_of(train, monkeypatch):
    def hooks(cfg, *options):
        monkeypatch.setattr(sys, 'argv', ['train.py', 'config.py', *options])
        train.add_hooks(cfg, train.parse_args())
        return [dict(hook) for hook in cfg.custom_hooks]

    return hooks


def test_hooks_are_appended(hooks_of):
    best = dict(save_best=['rec/acc', 'res/miou'], rule=['greater', 'greater'])
    text = "dict(type='ProfilerHook', schedule=dict(wait=1, active=2), names=['a,b'])"
    found = hooks_of(config(**best), '--ema', '0.01', '--early-stop', '3', '--hook', text)
    assert found == [
        dict(type='GradientNormHook'),
        dict(type='EMAHook', momentum=0.01),
        dict(type='EarlyStoppingHook', monitor='rec/acc', rule='greater', patience=3),
        dict(type='ProfilerHook', schedule=dict(wait=1, active=2), names=['a,b']),
    ]


def test_nothing_is_added_without_options(hooks_of):
    assert hooks_of(config()) == [dict(type='GradientNormHook')]
    assert hooks_of(Config(dict())) == []


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--ema', '1.5'], 'between 0 and 1'),
        (['--early-stop'], 'save_best is None'),
        (['--hook', 'ProfilerHook'], 'no Python literal'),
        (['--hook', 'dict(interval=1)'], "a dict with 'type'"),
        (['--hook', "dict(type=print('x'))"], 'no Python literal'),
    ],
)
def test_one_line_for_what_does_not_fit(hooks_of, options, words):
    with pytest.raises(InputError, match=words):
        hooks_of(config(), *options)


def test_backends(train, monkeypatch):
    cfg = Config(dict())
    monkeypatch.setattr(
        train.importlib.util, 'find_spec', lambda name: None if name == 'mlflow' else name
    )
    for _ in range(2):
        train.add_backends(cfg, ['tensorboard', 'wandb'])
    names = [backend['type'] for backend in cfg.visualizer.vis_backends]
    assert names == ['LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend']
    with pytest.raises(InputError, match='--mlflow: needs the package mlflow'):
        train.add_backends(cfg, ['mlflow'])


def test_a_list_of_dicts_on_the_command_line(train, monkeypatch):
    value = "param_scheduler=[dict(type='ConstantLR', factor=1.0), {'type': 'LinearLR'}]"
    options = ['--cfg-options', value, 'a.b=[1,2]', 'c=x,y', 'd=(224,224)', "e='x,y'"]
    monkeypatch.setattr(sys, 'argv', ['train.py', 'config.py', *options])
    assert train.parse_args().cfg_options == {
        'param_scheduler': [dict(type='ConstantLR', factor=1.0), dict(type='LinearLR')],
        'a.b': [1, 2],
        'c': 'x,y',  # a list or a string: the config's value decides
        'd': (224, 224),
        'e': 'x,y',
    }
