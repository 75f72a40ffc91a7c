"""Checkpoints run no code, and neither a kill nor a full disk spoils them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from projects.common.files.atomic import write_atomically
from projects.common.hooks.checkpoint_hook import AtomicCheckpointHook, find_resumable
from projects.common.weights.checkpoint import load_checkpoint_file, use_safe_checkpoint_loading


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


class Getter:
    """Reaches for a method of an admitted class."""

    def __reduce__(self):
        return getattr, (np.ndarray, 'tofile')


@pytest.fixture
def loaders():
    before = dict(CheckpointLoader._schemes)
    yield
    CheckpointLoader._schemes = before


@pytest.mark.parametrize('legacy', [False, True])
def test_hostile_checkpoints_never_run(tmp_path: Path, legacy: bool, loaders) -> None:
    path, proof = tmp_path / 'evil.pth', tmp_path / 'ran'
    content = {'state_dict': {'w': torch.ones(1)}, 'meta': Hostile(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    use_safe_checkpoint_loading()
    with pytest.raises(pickle.UnpicklingError) as error:
        CheckpointLoader.load_checkpoint(str(path), 'cpu', logger=None)
    assert not proof.exists()
    for words in (str(path), 'system', '--trust-checkpoint'):
        assert words in str(error.value)
    load_checkpoint_file(path, trust=True)  # the switch does what it says
    assert proof.exists()


def test_getattr_reaches_nothing_but_log_statistics(tmp_path: Path) -> None:
    torch.save({'x': Getter()}, tmp_path / 'g.pth')
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint_file(tmp_path / 'g.pth')


def test_what_mmengine_saves_is_read(tmp_path: Path) -> None:
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = {
        'state_dict': {'w': torch.ones(2)},
        'message_hub': {
            'log_scalars': {'loss': history},
            'runtime_info': {'best': np.float64(0.5), 'a': np.arange(3)},
        },
    }
    torch.save(content, tmp_path / 'ok.pth')
    read = load_checkpoint_file(tmp_path / 'ok.pth')
    assert read['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert read['message_hub']['runtime_info']['best'] == 0.5


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / 'whole.pth'
    torch.save({'w': torch.ones(1000)}, whole)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(whole.read_bytes()[:1500])
    for path in (cut, tmp_path / 'gone.pth'):
        with pytest.raises((pickle.UnpicklingError, FileNotFoundError), match=path.name):
            load_checkpoint_file(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / 'a.pth'
    write_atomically(path, b'old')

    def full_disk(descriptor: int) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        write_atomically(path, b'new')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_find_resumable_skips_what_is_not_complete(tmp_path: Path) -> None:
    assert find_resumable(tmp_path) is None
    for epoch in (2, 9, 10):
        torch.save({'epoch': epoch}, tmp_path / f'epoch_{epoch}.pth')
    torch.save({}, tmp_path / 'best_toy_score_epoch_11.pth')
    cut = tmp_path / 'epoch_10.pth'
    cut.write_bytes(cut.read_bytes()[:-30])
    assert find_resumable(tmp_path) == str(tmp_path / 'epoch_9.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/before/the/move/epoch_2.pth')
    assert find_resumable(tmp_path) == str(tmp_path / 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text('')
    assert find_resumable(tmp_path) == str(tmp_path / 'epoch_9.pth')


class FakeRunner:
    """Saves empty checkpoints and can be stopped in the middle of saving."""

    def __init__(self, folder: Path) -> None:
        self.work_dir = str(folder)
        self.epoch = self.iter = 0
        self.logger = SimpleNamespace(info=print, warning=print)
        self.info: dict = {}
        self.message_hub = SimpleNamespace(
            runtime_info=self.info, get_info=self.info.get, update_info=self.info.__setitem__
        )
        self.killed = False

    def save_checkpoint(self, out_dir: str, filename: str, **kwargs) -> None:
        if self.killed:
            raise KeyboardInterrupt
        torch.save({}, Path(out_dir, filename))


def test_old_checkpoints_outlive_an_interrupted_save(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1, save_best='score', rule='greater')
    hook.before_train(runner)
    hook._save_checkpoint(runner)
    runner.epoch = 1
    hook.after_val_epoch(runner, {'score': 1.0})
    assert {p.name for p in tmp_path.glob('*.pth')} == {'epoch_1.pth', 'best_score_epoch_1.pth'}

    runner.killed = True
    with pytest.raises(KeyboardInterrupt):
        hook._save_checkpoint(runner)
    with pytest.raises(KeyboardInterrupt):
        hook.after_val_epoch(runner, {'score': 2.0})
    assert {p.name for p in tmp_path.glob('*.pth')} == {'epoch_1.pth', 'best_score_epoch_1.pth'}

    runner.killed = False
    runner.epoch, hook.keep_ckpt_ids[-1] = 1, 1
    hook.best_ckpt_path = str(tmp_path / 'best_score_epoch_1.pth')
    hook._save_checkpoint(runner)
    runner.epoch = 2
    hook.after_val_epoch(runner, {'score': 3.0})
    hook.after_val_epoch(runner, {'score': 2.5})  # no new best: the old one stays
    assert {p.name for p in tmp_path.glob('*.pth')} == {'epoch_2.pth', 'best_score_epoch_2.pth'}
    assert hook.best_ckpt_path.endswith('best_score_epoch_2.pth')
