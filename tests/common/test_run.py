"""Adapting a config to the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.cli.run import copy_asynchronously

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize(
    ('name', 'non_blocking'),
    [
        ('plvl/plvl_vit-b_4xb20-150e_refcoco', True),
        ('pdsl/pdsl_r18_4xb1-100k_voc12', True),
        ('rvse/rvsepp_selhn_1xb128-30e_f30k', True),
        ('rvse/rvsepp-r50_selhn_1xb128-30e_f30k-pictures', True),
        ('pdsl/pretrain/resnet-ws18_4xb64-120e_in1k', None),  # mmpretrain's takes no such argument
    ],
)
def test_batches_are_pinned_and_copied_asynchronously(name, non_blocking):
    found = sorted(CONFIGS.glob(f'{name}.py')) or sorted(CONFIGS.glob('pdsl/pretrain/*.py'))
    cfg = Config.fromfile(found[0])
    copy_asynchronously(cfg)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(loader):
            assert cfg[loader].pin_memory is True
    processor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    assert processor.get('non_blocking') == non_blocking
    MODELS.build(dict(processor, **({'_scope_': 'mmdet'} if 'pdsl' in name else {})))


def test_what_the_config_says_stays():
    cfg = Config(
        dict(
            train_dataloader=dict(pin_memory=False),
            model=dict(data_preprocessor=dict(type='BaseDataPreprocessor', non_blocking=False)),
        )
    )
    copy_asynchronously(cfg)
    assert cfg.train_dataloader.pin_memory is False
    assert cfg.model.data_preprocessor.non_blocking is False
