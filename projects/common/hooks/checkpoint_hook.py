"""Write checkpoints that survive a kill."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS

from ..files.atomic import is_zip, write_atomically

__all__ = ['AtomicCheckpointHook', 'AtomicLocalBackend', 'find_resumable']


@register_backend('atomic_local', force=True)
class AtomicLocalBackend(LocalBackend):
    """Store local files atomically: write a temporary file next to the target, sync, rename."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``, creating its folder if necessary."""
        write_atomically(filepath, obj)


def _without_own_deprecations(record: logging.LogRecord) -> bool:
    """Filter out MMEngine's warnings about its own classes, logged at every checkpoint."""
    return not record.getMessage().startswith(
        ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
    )


_BestPaths = dict[str | None, str | None]  # by indicator, or by None if there is only one


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Extend MMEngine's `CheckpointHook` to be safe against a kill at any moment.

    Files are written atomically, and an older checkpoint is removed only after its successor is on
    disk. The arguments are those of `CheckpointHook`, except that `backend_args` must not select
    another backend.
    """

    best_ckpt_path: str | None
    best_ckpt_path_dict: _BestPaths

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs['backend_args'] = {'backend': 'atomic_local', **(kwargs.get('backend_args') or {})}
        super().__init__(*args, **kwargs)

    def before_train(self, runner) -> None:
        """Keep MMEngine's warnings about its own classes out of the log."""
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
        # The parent removes the previous best checkpoint before it writes the new one, so hide it
        # meanwhile.
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
    """Return the newest complete checkpoint in a work directory, or None if there is none.

    `last_checkpoint` is used if it names a complete file. Otherwise (the directory was moved, or
    another hook was killed while writing), the newest complete `epoch_*.pth` or `iter_*.pth` is
    used.
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
    return os.path.isfile(path) and is_zip(path)  # truncated files do not count
