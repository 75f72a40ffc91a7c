"""A progress bar with the time that is left, for training, validation and testing."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import timedelta
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import InputError

__all__ = ['ProgressBarHook', 'progress_bar']


class _PlainBar:
    """Stands in for tqdm where the output is a file: a line every `interval` seconds."""

    def __init__(self, total: int, initial: int, desc: str, interval: float) -> None:
        self.total = total
        self.initial = self.n = initial
        self.desc = desc
        self.postfix = ''
        self.interval = interval
        self.start = self.shown = time.monotonic()

    def update(self) -> None:
        self.n += 1
        now = time.monotonic()
        if now - self.shown < self.interval:
            return
        self.shown = now
        seconds = (now - self.start) / (self.n - self.initial) * (self.total - self.n)
        extra = f', {self.postfix}' if self.postfix else ''
        left = timedelta(seconds=round(seconds))
        print(f'{self.desc}: {self.n}/{self.total}, {left} left{extra}', flush=True)

    def set_description(self, desc: str, refresh: bool = True) -> None:
        self.desc = desc

    def set_postfix_str(self, postfix: str, refresh: bool = True) -> None:
        self.postfix = postfix

    def close(self) -> None:
        pass

    def __enter__(self) -> _PlainBar:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def progress_bar(
    total: int,
    desc: str,
    unit: str = 'it',
    initial: int = 0,
    style: str = 'auto',
    interval: float = 30.0,
    **kwargs: Any,
) -> tqdm | _PlainBar:
    """A bar on a terminal, a line every `interval` seconds elsewhere; also a context manager."""
    if style == 'bar' or (style == 'auto' and sys.stderr.isatty()):
        return tqdm(
            total=total, initial=initial, desc=desc, unit=unit, dynamic_ncols=True, **kwargs
        )
    return _PlainBar(total, initial, desc, interval)


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows how far a run is and when it will end.

    On a terminal a bar with epoch, iterations, speed, time left and loss, below which log lines
    scroll; elsewhere (a file, a pipe, CI) a log line now and then. Main process only.

    Args:
        style: `bar`, `lines`, or `auto` to choose by whether standard error is a terminal.
        interval: Seconds between two lines of the `lines` style.
    """

    priority = 'VERY_LOW'

    def __init__(self, style: str = 'auto', interval: float = 30.0) -> None:
        if style not in ('auto', 'bar', 'lines'):
            raise InputError(f"ProgressBarHook: style is 'auto', 'bar' or 'lines', found {style!r}")
        self.style = style
        self.interval = interval
        self.bars: dict[str, Any] = {}
        self.redirect = contextlib.ExitStack()

    def _open(self, runner, name: str, total: int, initial: int = 0) -> None:
        if not is_main_process():
            return
        self._close(name)
        bar = progress_bar(
            total, name, 'it', initial, self.style, self.interval, leave=name != 'val'
        )
        if isinstance(bar, tqdm) and not self.bars:  # log lines go above the bar
            self.redirect.enter_context(logging_redirect_tqdm([runner.logger]))
        self.bars[name] = bar

    def _close(self, name: str) -> None:
        bar = self.bars.pop(name, None)
        if bar is not None:
            bar.close()
            if not self.bars:
                self.redirect.close()

    def before_train(self, runner) -> None:
        """Opens the bar where the run stands, after zero or more iterations."""
        self._open(runner, 'train', runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Counts one iteration and shows its loss."""
        bar = self.bars.get('train')
        if bar is None:
            return
        if getattr(runner.train_loop, 'max_epochs', 1) > 1:
            bar.set_description(
                f'train epoch {runner.epoch + 1}/{runner.max_epochs}', refresh=False
            )
        if outputs and 'loss' in outputs:
            bar.set_postfix_str(f'loss {outputs["loss"].item():.4g}', refresh=False)
        bar.update()

    def after_train(self, runner) -> None:
        """Closes the bar of training."""
        self._close('train')

    def before_val_epoch(self, runner) -> None:
        """Opens a bar of one validation."""
        self._open(runner, 'val', len(runner.val_dataloader))

    def after_val_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Counts one batch."""
        if 'val' in self.bars:
            self.bars['val'].update()

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Closes the bar of the validation."""
        self._close('val')

    def before_test_epoch(self, runner) -> None:
        """Opens the bar of the test."""
        self._open(runner, 'test', len(runner.test_dataloader))

    def after_test_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Counts one batch."""
        if 'test' in self.bars:
            self.bars['test'].update()

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        """Closes the bar of the test."""
        self._close('test')
