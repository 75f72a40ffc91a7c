"""The tools on a small PLVL: several processes, kill and resume, wrong input, real pictures."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from projects.common.checkpoint import load_checkpoint_file
from projects.common.scenes import write_dataset

CONFIG = 'configs/plvl/plvl_tiny_1xb8-150e_refcoco.py'
SMALL = (
    'model.backbone.depth=2',
    'model.backbone.global_indexes=(1,)',
    'model.backbone.language_indexes=(1,)',
    'model.decoder.num_layers=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=1',
    'randomness.seed=3',
)


@pytest.fixture(scope='module')
def scenes_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('scenes')
    write_dataset(root, num_train=6, num_val=2, num_test=2, image_size=64, progress=False)
    return root


@pytest.fixture
def on_scenes(scenes_root: Path) -> tuple[str, ...]:
    """Options that point the RefCOCO config at scenes."""
    options = []
    for split in ('train', 'val', 'test'):
        where = f'{split}_dataloader.dataset'
        options += [
            f'{where}.data_root={scenes_root}',
            f'{where}.data_prefix.img=images/',
            f'{where}.ann_file=scenes/instances.json',
            f'{where}.split_file=scenes/refs(scenes).p',
        ]
    return (*SMALL, *options)


def run(tool, script: str, config: Path, *arguments, **env):
    done = tool(script, config, *arguments, **env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def logged_losses(folder: Path) -> list[dict]:
    (log,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in row.items() if 'loss' in k} for row in rows if 'loss' in row]


def test_two_processes_equal_one(repo_root, on_scenes, tool, tmp_path, free_port) -> None:
    """The same losses, each of them, as one process with the same global batch."""
    config = repo_root / CONFIG
    # Statistics of batch normalisation are per process; group normalisation has none.
    options = (
        '--cfg-options',
        *on_scenes,
        'train_cfg.max_epochs=1',
        'log_processor.window_size=1',
        'train_dataloader.drop_last=True',
        'model.head.norm_cfg.type=GN',
        'model.head.norm_cfg.num_groups=8',
        'model.backbone.stem_norm_cfg.type=GN',
        'model.backbone.stem_norm_cfg.num_groups=8',
    )
    run(tool, 'train.py', config, '--work-dir', tmp_path / 'one', *options)
    two = ('2', '--work-dir', tmp_path / 'two', *options, 'train_dataloader.batch_size=4')
    run(tool, 'dist_train.sh', config, *two, PORT=free_port())
    one, two = logged_losses(tmp_path / 'one'), logged_losses(tmp_path / 'two')
    assert len(one) >= 3 and len(one[0]) == 6
    # An odd number of sentences is filled up for two processes, which may make one batch more.
    for ours, theirs in zip(one, two[: len(one)], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_killed_and_resumed_equals_straight(repo_root, on_scenes, tool, tmp_path) -> None:
    """SIGKILL in the middle of the second epoch, then --resume: the same weights, bit for bit."""
    config = repo_root / CONFIG
    options = ('--cfg-options', *on_scenes, 'train_cfg.max_epochs=3')
    run(tool, 'train.py', config, '--work-dir', tmp_path / 'straight', *options)
    killed = tmp_path / 'killed'
    process = tool.start('train.py', config, '--work-dir', killed, *options)
    deadline = time.time() + 150
    while not (killed / 'epoch_1.pth').exists() and time.time() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (killed / 'epoch_1.pth').exists()
    assert not (killed / 'epoch_3.pth').exists(), 'killed too late to mean anything'
    run(tool, 'train.py', config, '--work-dir', killed, '--resume', *options)
    straight, resumed = (
        load_checkpoint_file(folder / 'epoch_3.pth')['state_dict']
        for folder in (tmp_path / 'straight', killed)
    )
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.bakbone.depth=2', ("'model.bakbone'", "'model.backbone'")),
        (
            'train_dataloader.dataset.data_root=/nowhere',
            ("data_root of ReferGroundingDataset: '/nowhere' does not exist", 'DATA_ROOT'),
        ),
    ],
)
def test_user_errors_are_one_line(repo_root, option, words, tool) -> None:
    done = tool('train.py', repo_root / CONFIG, '--cfg-options', option)
    assert done.returncode in (1, 2)
    assert 'Traceback' not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if 'error:' in line]
    for word in words:
        assert word in line


def test_real_pictures(repo_root, shared_data, tool, tmp_path) -> None:
    """Real RefCOCO trains, is tested on all its splits, and pictures are drawn."""
    env = dict(DATA_ROOT=str(shared_data / 'refcoco_sample'))
    config = repo_root / CONFIG
    options = ('--cfg-options', *SMALL, 'train_cfg.max_epochs=2')
    run(tool, 'train.py', config, '--work-dir', tmp_path, *options, **env)
    rows = logged_losses(tmp_path)
    assert all(value < 100 for row in rows for value in row.values())
    for split, count in (('val', 6), ('testA', 11), ('testB', 12)):
        out, pictures = tmp_path / f'{split}.json', tmp_path / split
        run(
            *(tool, 'test.py', config, tmp_path / 'epoch_2.pth', '--work-dir', tmp_path),
            *('--out', out, '--show-dir', pictures, '--cfg-options', *SMALL),
            f'test_dataloader.dataset.split={split}',
            **env,
        )
        assert len(json.loads(out.read_text())) == count
        assert len(list(pictures.rglob('*.jpg'))) == count
