"""train.py's checks and options: checkpoints that do not fit, schedules, resuming, precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.visualization import Visualizer

from projects.common.optim.autocast import BFloat16OptimWrapper
from projects.common.weights.checkpoint import load_checkpoint_file

FIRST = 'train_cfg = dict(by_epoch=True, max_epochs=2)\n'
OPTIMIZER = 'optim_wrapper = dict(optimizer=dict({}))\n'
SCHEDULER = 'param_scheduler = dict({}, by_epoch=False)\n'


def assert_one_line(done, *words: str) -> None:
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr + done.stdout
    (line,) = [line for line in done.stderr.splitlines() if 'error:' in line]
    for word in words:
        assert word in line


def rates(folder: Path) -> list[float]:
    """Learning rates of the newest run in a folder, by iteration."""
    log = max(folder.glob('*/vis_data/scalars.json'))
    return [row['lr'] for row in map(json.loads, log.read_text().splitlines()) if 'lr' in row]


@pytest.fixture
def train(toy_config, call_tool, tmp_path: Path):
    """Runs train.py in this process, on the toy config with lines at its end."""

    def run(extra: str = FIRST, *arguments, rc: int = 0, name: str = 'work'):
        for kind in (MessageHub, Visualizer):  # a process's next run would go on with these
            kind._instance_dict.clear()
        config = toy_config(f'experiment_name = {extra + name + repr(arguments)!r}\n' + extra)
        folder = tmp_path / name
        done = call_tool('train.py', config, '--work-dir', folder, *arguments, rc=rc)
        for log in folder.glob('2*'):  # named by seconds: the next run may start within this one
            log.rename(folder / f'log_{len(list(folder.glob("log_*"))):03d}')
        return done

    return run


@pytest.fixture
def first(train, tmp_path: Path) -> Path:
    train()
    return tmp_path / 'work/epoch_2.pth'


# ----------------------------------------------------------------------------- checkpoints


def test_checkpoints_that_do_not_fit(train, call_tool, toy_config, first, tmp_path) -> None:
    weights = load_checkpoint_file(first)['state_dict']
    unrelated, short = tmp_path / 'unrelated.pth', tmp_path / 'short.pth'
    torch.save({'conv.weight': torch.ones(3)}, unrelated)
    torch.save({k: v for k, v in weights.items() if k != 'layers.2.bias'}, short)
    load_from = ('--cfg-options', 'load_from=')

    def with_file(path: Path) -> tuple[str, str]:
        return load_from[0], f'{load_from[1]}{path}'

    done = train(FIRST, *with_file(unrelated), rc=1)
    for words in ('unrelated.pth: 0 of 4 tensors of ToyModel match', 'layers.0.weight'):
        assert words in done.err
    done = train(FIRST, *with_file(short), rc=1)
    assert '3 of 4 tensors of ToyModel match; the first that does not is layers.2.bias' in done.err
    done = train(FIRST, *with_file(short), '--allow-partial')
    assert '--allow-partial: 1 tensors keep' in done.out + done.err
    done = train(FIRST, *with_file(unrelated), '--allow-partial', rc=1)
    assert '0 of 4' in done.err
    for path in (unrelated, short):  # nothing is optional in a test, or where training goes on
        done = call_tool('test.py', toy_config(), path, rc=1)
        assert done.err.count('error:') == 1 and path.name in done.err
    content = load_checkpoint_file(first)
    content['state_dict'].pop('layers.2.bias')
    torch.save(content, tmp_path / 'damaged.pth')
    done = train(FIRST, '--resume', tmp_path / 'damaged.pth', '--allow-partial', rc=1)
    assert '3 of 4 tensors' in done.err


# -------------------------------------------------------------------------------- schedules


def test_a_schedule_moves_with_training_or_is_refused(train, tmp_path) -> None:
    train('', '--cfg-options', 'train_cfg.max_epochs=3', name='three')
    found = rates(tmp_path / 'three')
    assert found == pytest.approx([0.01 * (1 - t / 18) ** 0.9 for t in range(18)], abs=1e-12)
    fixed = "param_scheduler = dict(type='PolyLR', power=0.9, end=24, by_epoch=False)\n"
    train(fixed, name='fixed')
    done = train(fixed, '--cfg-options', 'train_cfg.max_epochs=3', rc=1, name='shorter')
    for words in ('param_scheduler.0.end: 24, after the 18 iterations', 'train_cfg.max_epochs'):
        assert words in done.err
    options = ('--cfg-options', 'train_cfg.max_epochs=1', '--allow-schedule-mismatch')
    train(fixed, *options, name='anyhow')


# ---------------------------------------------------------------------------------- resuming


def test_resuming_with_another_learning_rate(train, first, tmp_path) -> None:
    more = 'train_cfg = dict(by_epoch=True, max_epochs=2)\n'
    assert load_checkpoint_file(first)['meta']['epoch'] == 2
    train(more, '--resume', name='work')  # nothing has changed, and nothing is left to do
    other = more + OPTIMIZER.format("type='AdamW', lr=0.003")
    done = train(other, '--resume', rc=1)
    for words in ('lr of layers.0.weight is 0.01 in the checkpoint and 0.003', '--new-schedule'):
        assert words in done.err
    longer = other.replace('max_epochs=2', 'max_epochs=4')
    train(longer, '--resume', '--new-schedule')
    expected = [0.003 * (1 - t / 24) ** 0.9 for t in range(12, 24)]
    assert rates(tmp_path / 'work') == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ('extra', 'words'),
    [
        ('train_cfg = dict(by_epoch=True, max_epochs=4)\n', 'param_scheduler.0.end is 12'),
        (FIRST + SCHEDULER.format("type='PolynomialLR', power=2.0"), 'scheduler.0.power is 0.9'),
        (FIRST + 'param_scheduler = None\n', 'lr of layers.0.weight is'),
        (FIRST + SCHEDULER.format("type='CosineAnnealingLR'"), 'scheduler.0.T_max is absent'),
        (
            FIRST + OPTIMIZER.format("type='AdamW', lr=0.01, weight_decay=0.3"),
            'weight_decay of layers.0.weight is 0.01 in the checkpoint and 0.3 in the config',
        ),
    ],
)
def test_resuming_with_another_schedule(extra, words, train, first) -> None:
    done = train(extra, '--resume', rc=1)
    assert words in done.err and '--new-schedule' in done.err


def test_another_optimizer_cannot_be_resumed(train, first) -> None:
    extra = FIRST + OPTIMIZER.format("type='SGD', lr=0.01, momentum=0.9")
    for arguments in (('--resume',), ('--resume', '--new-schedule')):
        done = train(extra, *arguments, rc=1)
        assert 'of another kind' in done.err and 'load_from' in done.err


def test_a_new_schedule_by_epochs_and_iterations(train, first, tmp_path) -> None:
    """Warm-up by iterations and steps by epochs go on where an uninterrupted run would be."""
    extra = (
        'train_cfg = dict(by_epoch=True, max_epochs=4)\n'
        'param_scheduler = [\n'
        "    dict(type='LinearLR', start_factor=0.1, end=15, by_epoch=False),\n"
        "    dict(type='MultiStepLR', milestones=[1, 3], gamma=0.1, by_epoch=True)]\n"
    )
    train(extra, name='straight')
    train(extra, '--resume', '--new-schedule')
    straight = rates(tmp_path / 'straight')
    assert rates(tmp_path / 'work') == pytest.approx(straight[12:], abs=1e-12)
    assert len(set(straight)) > 10


def test_new_schedule_goes_with_resume(call_tool, toy_config) -> None:
    done = call_tool('train.py', toy_config(), '--new-schedule', rc=2)
    assert '--new-schedule goes with --resume' in done.err


# --------------------------------------------------------------------------------- precision


def test_bf16_works_without_a_gpu(train, tmp_path) -> None:
    wrapper = (
        "optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=512.0, "
        "optimizer=dict(type='AdamW', lr=0.01))\n"
    )
    train(FIRST, name='float32')
    train(FIRST, '--amp', 'bf16', name='bf16')
    train(FIRST + wrapper, '--amp', 'bf16', name='wrapper')
    single, half, other = (
        load_checkpoint_file(tmp_path / name / 'epoch_2.pth')['state_dict']['layers.0.weight']
        for name in ('float32', 'bf16', 'wrapper')
    )
    assert half.dtype == torch.float32
    assert not torch.equal(single, half)
    torch.testing.assert_close(single, half, rtol=0.1, atol=0.02)
    assert torch.equal(half, other)
    model = torch.nn.Linear(2, 2)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 2)).dtype == torch.bfloat16
    assert model(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is there')
def test_fp16_needs_a_gpu(call_tool, toy_config) -> None:
    config = toy_config()
    for arguments in ((config, '--amp'), ('--amp', config), (config, '--amp', 'fp16')):
        done = call_tool('train.py', *arguments, rc=1)
        assert '--amp fp16: needs a GPU' in done.err and '--amp bf16 does not' in done.err
    config = toy_config("optim_wrapper = dict(type='AmpOptimWrapper')\n")
    done = call_tool('train.py', config, rc=1)
    assert f'config {config}: AmpOptimWrapper: needs a GPU' in done.err
    done = call_tool('train.py', config, '--amp', 'int8', rc=2)
    assert 'invalid choice' in done.err or 'unrecognized' in done.err
