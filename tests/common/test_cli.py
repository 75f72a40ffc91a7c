"""Overrides that would change nothing are refused; user errors become one line, bugs do not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from projects.common.cli.config import load_config
from projects.common.cli.overrides import check_cfg_options
from projects.common.cli.report import report_user_errors, user_message
from projects.common.errors import InputError


class CliParent(nn.Module):
    def __init__(self, channels: int = 8, norm: str = 'ln') -> None:
        super().__init__()


@MODELS.register_module(force=True)
class CliModel(CliParent):
    moved_arguments = {'layers': 'backbone.depth'}

    def __init__(self, depth: int = 4, **kwargs) -> None:
        if depth < 1:
            raise ValueError(f'CliModel: depth={depth}, expected at least 1')
        super().__init__(**kwargs)


def config() -> Config:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(448, 448))]
    return Config(
        dict(
            data_root='data/',
            train_pipeline=pipeline,
            default_scope='mmengine',
            model=dict(
                type='CliModel', backbone=dict(type='CliModel', channels=3), test_cfg=dict(nms=0.5)
            ),
            train_dataloader=dict(
                batch_size=2,
                dataset=dict(type='Whatever', data_root='data/', pipeline=pipeline),
            ),
            val_dataloader=dict(dataset=dict(type='Whatever', data_root='data/', pipeline=[])),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)),
        )
    )


@pytest.mark.parametrize(
    'key',
    [
        'model.backbone.channels',
        'model.depth',  # an argument that the config leaves at its default
        'model.backbone.norm',  # one of the base class, behind **kwargs
        'model.test_cfg.nms',
        'train_dataloader.dataset.pipeline.1.scale',
        'train_dataloader.num_workers',
        'train_cfg.val_interval',
        'optim_wrapper.clip_grad.max_norm',
        'optim_wrapper.optimizer.weight_decay',
        'randomness.seed',
        'env_cfg.dist_cfg.backend',
        'load_from',
        'compile',
        'auto_scale_lr.enable',
    ],
)
def test_keys_that_take_effect_are_accepted(key: str) -> None:
    check_cfg_options(config(), {key: 1})


@pytest.mark.parametrize(
    ('key', 'missing', 'nearest'),
    [
        ('model.bakbone.depth', 'model.bakbone', 'model.backbone'),
        ('model.backbone.dept', 'model.backbone.dept', 'model.backbone.depth'),
        ('modl.depth', 'modl', 'model'),
        ('train_dataloader.batchsize', 'train_dataloader.batchsize', 'train_dataloader.batch_size'),
        (
            'train_dataloader.dataset.pipeline.1.scal',
            None,
            'train_dataloader.dataset.pipeline.1.scale',
        ),
        ('train_cfg.max_epoch', 'train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('optim_wrapper.optimizer.wieght_decay', None, 'optim_wrapper.optimizer.weight_decay'),
        ('randomness.sed', 'randomness.sed', 'randomness.seed'),
        ('model.test_cfg.nsm', 'model.test_cfg.nsm', 'model.test_cfg.nms'),
    ],
)
def test_unknown_keys_name_the_nearest(key: str, missing: str | None, nearest: str) -> None:
    with pytest.raises(InputError) as error:
        check_cfg_options(config(), {key: 1})
    expected = f"--cfg-options {key}: the config has no '{missing or key}'; nearest: '{nearest}'"
    assert str(error.value) == expected


def test_former_arguments_name_their_new_place() -> None:
    with pytest.raises(InputError) as error:
        check_cfg_options(config(), {'model.layers': 1})
    assert str(error.value).endswith("model.layers': this argument is now model.backbone.depth")
    with pytest.raises(InputError, match='nearest'):
        check_cfg_options(config(), {'model.layer': 1})


def test_variables_of_the_file_name_the_path_that_works() -> None:
    with pytest.raises(
        InputError, match=r"Set 'train_dataloader\.dataset\.pipeline\.1\.scale' instead"
    ):
        check_cfg_options(config(), {'train_pipeline.1.scale': 1})
    with pytest.raises(InputError) as error:
        check_cfg_options(config(), {'data_root': '/data'})
    for words in (
        'train_dataloader.dataset.data_root',
        'val_dataloader.dataset.data_root',
        'DATA_ROOT',
    ):
        assert words in str(error.value)


def test_lists_and_values_are_not_walked_into() -> None:
    with pytest.raises(InputError, match='is a list with indices 0 to 1'):
        check_cfg_options(config(), {'train_dataloader.dataset.pipeline.2.type': 'Pad'})
    with pytest.raises(InputError, match="'model.backbone.channels' is 3, which has no keys"):
        check_cfg_options(config(), {'model.backbone.channels.x': 1})


def test_a_later_option_may_rest_on_an_earlier_one() -> None:
    options = {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'}
    check_cfg_options(config(), options)
    with pytest.raises(InputError, match=r"no 'optim_wrapper\.loss_scale'"):
        check_cfg_options(config(), {'optim_wrapper.loss_scale': 'dynamic'})


def test_load_config_applies_options_and_reports_syntax(tmp_path) -> None:
    good = tmp_path / 'good.py'
    good.write_text("model = dict(type='CliModel', depth=2)\n")
    assert load_config(good, {'model.depth': 7}).model.depth == 7
    bad = tmp_path / 'bad.py'
    bad.write_text('model = dict(\n')
    with pytest.raises(InputError, match=re.escape(str(bad))):
        load_config(bad)


def one_line(action, capsys) -> str:
    with pytest.raises(SystemExit) as stop, report_user_errors():
        action()
    assert stop.value.code == 1
    out = capsys.readouterr().err
    assert out.count('\n') == 1
    return out


def test_user_errors_end_in_one_line(capsys, tmp_path) -> None:
    broken = tmp_path / 'x.json'
    broken.write_text('{')
    assert (
        one_line((tmp_path / 'gone.txt').read_text, capsys)
        == f'error: {tmp_path}/gone.txt: No such file or directory\n'
    )
    assert 'Expecting' in one_line(lambda: json.loads(broken.read_text()), capsys)
    assert 'CliModl is not in the' in one_line(lambda: MODELS.build(dict(type='CliModl')), capsys)
    unknown = one_line(lambda: MODELS.build(dict(type='CliModel', chanels=2)), capsys)
    assert "unexpected keyword argument 'chanels'" in unknown


def test_bugs_keep_their_traceback(monkeypatch) -> None:
    def bug():
        return {}['missing']

    with pytest.raises(KeyError), report_user_errors():
        bug()
    with pytest.raises(ZeroDivisionError), report_user_errors():
        raise ZeroDivisionError
    monkeypatch.setenv('MMTRIAD_TRACEBACK', '1')
    with pytest.raises(InputError), report_user_errors():
        raise InputError('shown in full on request')


def test_an_error_of_a_data_loading_worker_is_unpacked() -> None:
    text = (
        'Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback (most '
        'recent call last):\n'
        '  File "/x/torch/_utils/worker.py", line 3, in _worker_loop\n    data = '
        'fetcher.fetch(index)\n'
        '  File "/x/data.py", line 7, in read\n    raise FileNotFoundError(\n'
        'FileNotFoundError: refs.p: image 12: no such file a.jpg\n'
    )
    assert user_message(FileNotFoundError(text)) == 'refs.p: image 12: no such file a.jpg'
    assert user_message(RuntimeError(text.replace('FileNotFoundError', 'RuntimeError'))) is None


LEAVE = """
import mmengine.runner  # as every tool that trains has
import torch
from pathlib import Path
from torch.nn.parallel import DistributedDataParallel
from projects.common.cli.run import leave_process_group

def gloo_threads():
    return [p for p in Path('/proc/self/task').glob('*/comm') if 'gloo' in p.read_text()]

class Runner:
    def __init__(self):
        self.model = DistributedDataParallel(torch.nn.Linear(2, 1))
        self.model.runner = [self]

store = torch.distributed.HashStore()
torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
Runner()
print(len(gloo_threads()) > 0)
leave_process_group()
print(len(gloo_threads()))
"""


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='lists threads as Linux does')
def test_no_thread_of_the_process_group_outlives_it() -> None:
    """One that frees a tensor while the interpreter exits aborts the finished process."""
    done = subprocess.run([sys.executable, '-c', LEAVE], capture_output=True, text=True)
    assert done.stdout.split() == ['True', '0'], done.stderr


def test_a_closed_output_ends_quietly():
    """As with ``tool | head -1``."""
    code = (
        'import sys; sys.path.insert(0, ".")\n'
        'from projects.common.cli.report import report_user_errors\n'
        'with report_user_errors():\n'
        '    for i in range(10**6): print(i)\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == '0\n'
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ''
