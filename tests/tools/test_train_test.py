"""train.py, test.py and their launchers on a toy model, run from a foreign directory."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from projects.common.cli.config import load_config
from projects.common.cli.run import build_runner, prepare
from projects.common.weights.checkpoint import load_checkpoint_file


def losses(folder: Path) -> list[float]:
    (log,) = folder.glob('*/vis_data/scalars.json')
    return [r['loss'] for r in map(json.loads, log.read_text().splitlines()) if 'loss' in r]


def assert_one_line(done, *words: str) -> None:
    assert done.returncode in (1, 2)
    assert 'Traceback' not in done.stderr + done.stdout
    (line,) = [line for line in done.stderr.splitlines() if 'error:' in line]
    for word in words:
        assert word in line


def test_unseeded_run_can_be_repeated(toy_config, tool, tmp_path: Path) -> None:
    config = toy_config('randomness = dict(seed=None)\n')
    first = tool('train.py', config, '--work-dir', tmp_path / 'a', '--tensorboard')
    assert first.returncode == 0, first.stderr
    seed = re.search(r'randomness\.seed=(\d+)', first.stdout + first.stderr)[1]
    again = tool(
        'train.py', config, '--work-dir', tmp_path / 'b', '--cfg-options', f'randomness.seed={seed}'
    )
    assert again.returncode == 0, again.stderr
    a, b = (load_checkpoint_file(tmp_path / run / 'epoch_4.pth')['state_dict'] for run in 'ab')
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert losses(tmp_path / 'a') == losses(tmp_path / 'b')
    assert list((tmp_path / 'a').glob('*/vis_data/events.out.tfevents.*'))
    assert len(list((tmp_path / 'a').glob('best_toy_score_*.pth'))) == 1
    assert len(list((tmp_path / 'a').glob('epoch_*.pth'))) == 2  # max_keep_ckpts

    tested = tool('test.py', config, tmp_path / 'a/epoch_4.pth', '--out', tmp_path / 'p.json')
    assert tested.returncode == 0, tested.stderr
    assert 'toy/score' in tested.stdout
    predictions = json.loads((tmp_path / 'p.json').read_text())
    assert len(predictions) == 8
    assert all(isinstance(p['pred_value'], float) for p in predictions)


def test_two_processes_equal_one_with_the_same_global_batch(
    toy_config, tool, tmp_path: Path, free_port
) -> None:
    config = toy_config()
    options = ('--cfg-options', 'model.dropout=0')
    one = tool('train.py', config, '--work-dir', tmp_path / 'one', *options)
    assert one.returncode == 0, one.stderr
    two = tool(
        *('dist_train.sh', config, '2', '--work-dir', tmp_path / 'two', *options),
        'train_dataloader.batch_size=2',
        PORT=free_port(),
    )
    assert two.returncode == 0, two.stderr
    assert losses(tmp_path / 'one') == pytest.approx(losses(tmp_path / 'two'), abs=1e-5)
    tested = tool('dist_test.sh', config, tmp_path / 'two/epoch_4.pth', '2', PORT=free_port())
    assert tested.returncode == 0, tested.stderr
    assert 'toy/score' in tested.stdout


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.widht=2', ("'model.widht'", "'model.width'")),
        ('train_dataloader.dataset.data_root=/nowhere', ('ToyDataset', '/nowhere')),
        ('model.type=ToyModl', ('ToyModl', 'registry')),
    ],
)
def test_user_errors_are_one_line(option: str, words, toy_config, tool) -> None:
    assert_one_line(tool('train.py', toy_config(), '--cfg-options', option), *words)


def test_wrong_config_path_is_one_line(tool) -> None:
    done = tool('misc/print_config.py', 'configs/_base_/default_runtim.py')
    assert_one_line(done, 'no such file', 'nearest: configs/_base_/default_runtime.py')


def test_bad_checkpoint_is_one_line(toy_config, tool, tmp_path: Path) -> None:
    bad = tmp_path / 'bad.pth'
    bad.write_bytes(b'not a checkpoint')
    assert_one_line(tool('test.py', toy_config(), bad), 'bad.pth')


def test_print_config_resolves_bases_and_overrides(toy_config, tool) -> None:
    done = tool('misc/print_config.py', toy_config(), '--cfg-options', 'train_cfg.max_epochs=9')
    assert done.returncode == 0, done.stderr
    assert 'AtomicCheckpointHook' in done.stdout
    assert 'max_epochs=9' in done.stdout


def test_slurm_script_quotes_what_it_passes_on(repo_root: Path, tool, tmp_path: Path) -> None:
    """With an srun that prints its arguments instead of running them."""
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\n')
    fake.chmod(0o755)
    done = tool(
        *('slurm_train.sh', 'gpu', 'job', 'c.py', 'dir', '--cfg-options', 'a=(1, 2)'),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='16',
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[-4:] == ['<--work-dir=dir>', '<--launcher=slurm>', '<--cfg-options>', '<a=(1, 2)>']
    assert '<--ntasks=16>' in words
    assert '<--ntasks-per-node=8>' in words
    assert '<--gres=gpu:8>' in words


def test_slurm_trains_without_gpus_at_the_port(toy_config, tool, tmp_path: Path, free_port) -> None:
    """With an srun that starts the processes on this machine, as Slurm does on its nodes."""
    fake = tmp_path / 'srun'
    fake.write_text(
        '#!/bin/bash\nwhile [[ $1 == -* ]]; do\n'
        '  [[ $1 == --ntasks=* ]] && export SLURM_NTASKS=${1#*=}\n'
        '  [[ $1 == --gres* ]] && exit 3\n'
        '  [[ $1 == -p ]] && shift; shift\ndone\n'
        'for ((i = 1; i < SLURM_NTASKS; i++)); do\n'
        '  SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!)\ndone\n'
        'SLURM_PROCID=0 SLURM_LOCALID=0 "$@" || exit\n'
        'for pid in "${pids[@]}"; do wait $pid || exit; done\n'
        'echo "port $MASTER_PORT"\n'
    )
    fake.chmod(0o755)
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho 127.0.0.1\n')
    scontrol.chmod(0o755)
    port = free_port()
    config = toy_config('train_cfg = dict(by_epoch=True, max_epochs=1)\n')
    done = tool(
        *('slurm_train.sh', 'cpu', 'job', config, tmp_path / 'work'),
        PATH=f'{tmp_path}:{Path(sys.executable).parent}:{os.environ["PATH"]}',
        GPUS='0',
        PROCESSES='2',
        PORT=port,
        SLURM_NODELIST='node[1-2]',
    )
    assert done.returncode == 0, done.stderr
    assert f'port {port}' in done.stdout
    assert losses(tmp_path / 'work')


def test_each_run_of_a_process_has_its_log(toy_config, tmp_path: Path) -> None:
    """MMEngine would write the second run's losses into the first run's folder."""
    path = str(toy_config('train_cfg = dict(by_epoch=True, max_epochs=2)\n'))
    for name in ('a', 'b'):
        cfg = load_config(path)
        cfg.experiment_name = f'each-{name}'
        prepare(cfg, path, launcher='none', work_dir=str(tmp_path / name))
        build_runner(cfg).train()
    first, second = losses(tmp_path / 'a'), losses(tmp_path / 'b')
    assert len(first) == len(second) > 2 and first == second  # one seed
