"""Checkpoints: loaded without running what they contain, written so that no kill spoils them."""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader

from .files import is_zip, write_atomically
from .layouts import recognise_pickle

__all__ = [
    'AtomicCheckpointHook',
    'AtomicLocalBackend',
    'find_resumable',
    'load_checkpoint_file',
    'use_safe_checkpoint_loading',
]


# ------------------------------------------------------------------------------------ loading


def _statistic(owner: type, name: str) -> Any:
    """Stands in for `getattr`, by which pickled log histories name their methods."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'global getattr({owner!r}, {name!r}) is not admitted')
    return getattr(owner, name)


def _admitted_globals() -> list:
    """What checkpoints hold beyond tensors: log histories, NumPy numbers and arrays, arguments.

    Many training scripts leave their command line, which is plain attributes. Both of NumPy's
    module paths are listed: files written under NumPy 1 name `numpy.core`.
    """
    numpy: Any = np  # its type stubs know neither path
    core = (numpy._core if hasattr(np, '_core') else numpy.core).multiarray
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFDSU'}
    return [
        HistoryBuffer,
        argparse.Namespace,
        (_statistic, 'builtins.getattr'),
        (_statistic, '__builtin__.getattr'),
        np.ndarray,
        np.dtype,
        *sorted(dtypes, key=str),
        *((getattr(core, name), f'numpy.{path}.multiarray.{name}')
          for name in ('_reconstruct', 'scalar') for path in ('core', '_core')),
    ]  # fmt: skip


def load_checkpoint_file(
    path: str | os.PathLike, map_location: Any = 'cpu', trust: bool = False
) -> Any:
    """`torch.load` with `weights_only=True` and MMEngine's own types admitted.

    Args:
        path: Local checkpoint.
        map_location: As in `torch.load`.
        trust: Unpickle freely, which runs any code that the file contains.

    Raises:
        FileNotFoundError: No such file.
        pickle.UnpicklingError: The file is damaged, is no checkpoint, or asks for a global that
            weights do not need; the message names file, global and switch.
    """
    path = os.path.expanduser(os.fspath(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path}: no such file')
    if trust:
        return torch.load(path, map_location=map_location, weights_only=False)
    try:
        with torch.serialization.safe_globals(_admitted_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file raises almost any exception
        raise pickle.UnpicklingError(
            f'checkpoint {path}: {_why_unreadable(error, path)}'
        ) from error


def _why_unreadable(error: Exception, path: str) -> str:
    """What the owner of a file that PyTorch does not read should know."""
    layout = None if is_zip(path) else recognise_pickle(path)
    if layout is not None:
        return layout.advice
    if not isinstance(error, pickle.UnpicklingError):
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f'damaged or no checkpoint ({reason})'
    # "GLOBAL a.b was not an allowed global" and "Trying to call reduce/instantiate a.b"
    found = re.search(
        r'(?:GLOBAL|global|call reduce for|[Uu]nsupported class) `?<?(?:class \')?([\w.]+)',
        str(error),
    )
    if found is None:
        return 'not readable as a checkpoint'
    return (
        f'asks for {found[1]}, which weights do not need and which could run code. If you trust '
        'whoever made this file, pass --trust-checkpoint'
    )


def use_safe_checkpoint_loading(trust: bool = False) -> None:
    """Make MMEngine load checkpoints through :func:`load_checkpoint_file` in this process.

    MMEngine's own loader falls back to free unpickling when `weights_only=True` fails. This
    concerns local paths and http(s) addresses, for `load_from`, resuming, testing and `init_cfg`
    alike.

    Args:
        trust: Unpickle freely; for files whose maker you trust.
    """

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        return load_checkpoint_file(filename, map_location, trust)

    def load_from_http(filename: str, map_location: Any = None) -> Any:
        rank, world_size = get_dist_info()
        folder = Path(torch.hub.get_dir()) / 'checkpoints'
        target = folder / os.path.basename(filename.split('?')[0])
        if rank == 0 and not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(filename, str(target))
        if world_size > 1:
            torch.distributed.barrier()
        return load_checkpoint_file(target, map_location, trust)

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)


# ------------------------------------------------------------------------------------ writing


@register_backend('atomic_local', force=True)
class AtomicLocalBackend(LocalBackend):
    """Local files that exist only in full: written beside their place, synchronised, renamed."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath``, whose folder is made."""
        write_atomically(filepath, obj)


def _without_own_deprecations(record: logging.LogRecord) -> bool:
    """MMEngine warns at every checkpoint of classes that it uses itself."""
    return not record.getMessage().startswith(
        ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
    )


_BestPaths = dict[str | None, str | None]  # by indicator, or by None where there is one alone


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's `CheckpointHook`, safe against a kill at any moment.

    Files appear by renaming, and an older checkpoint is removed only after its successor is on the
    disk. Arguments are those of `CheckpointHook`; `backend_args` may not name another backend.
    """

    best_ckpt_path: str | None
    best_ckpt_path_dict: _BestPaths

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs['backend_args'] = {'backend': 'atomic_local', **(kwargs.get('backend_args') or {})}
        super().__init__(*args, **kwargs)

    def before_train(self, runner) -> None:
        """Keeps MMEngine's warnings of its own classes out of the log."""
        MMLogger.get_current_instance().addFilter(_without_own_deprecations)
        super().before_train(runner)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        stale = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                stale.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_atomically(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt.encode())
            for old in stale:
                Path(self.out_dir, self.filename_tmpl.format(old)).unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        # The parent removes the previous best before the new one is written; hide it meanwhile.
        if not self.save_best:
            return
        single = len(self.key_indicators) == 1
        before: _BestPaths = (
            {None: self.best_ckpt_path} if single else dict(self.best_ckpt_path_dict)
        )
        if single:
            self.best_ckpt_path = None
        else:
            self.best_ckpt_path_dict = dict.fromkeys(before)
        super()._save_best_checkpoint(runner, metrics)
        after: _BestPaths = {None: self.best_ckpt_path} if single else self.best_ckpt_path_dict
        for key, old in before.items():
            if after[key] is None:
                after[key] = old
            elif old and old != after[key] and is_main_process():
                Path(old).unlink(missing_ok=True)
        if single:
            self.best_ckpt_path = after[None]


def find_resumable(work_dir: str | os.PathLike) -> str | None:
    """The newest complete checkpoint of a work folder, None where there is none.

    `last_checkpoint` is believed where it names a complete file; else (the folder was moved, or
    another hook was killed while it wrote) the newest complete `epoch_*.pth` or `iter_*.pth` is
    taken.
    """
    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        named = Path(pointer.read_text(errors='replace').strip())
        for path in (named, work_dir / named.name):
            if _is_complete(path):
                return str(path)
    numbered = [
        (int(found[1]), path)
        for path in work_dir.glob('*.pth')
        if (found := re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name))
    ]
    newest_first = (path for _, path in sorted(numbered, reverse=True))
    return next((str(path) for path in newest_first if _is_complete(path)), None)


def _is_complete(path: Path) -> bool:
    return os.path.isfile(path) and is_zip(path)  # a truncated one is none
