"""Show a progress bar with the remaining time for training, validation and testing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import Any, TypeVar

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import InputError

__all__ = ['ProgressBarHook', 'progress_bar', 'track']

T = TypeVar('T')


class _PlainBar:
    """Replace tqdm if the output is a file: print a line every `interval` seconds.

    The first one comes after `first` seconds.
    """

    def __init__(
        self, total: int, initial: int, desc: str, interval: float, first: float | None = None
    ) -> None:
        self.total = total
        self.initial = self.n = initial
        self.desc = desc
        self.postfix = ''
        self.interval = interval
        self.start = self.shown = time.monotonic()
        if first is not None:
            self.shown += first - interval

    def update(self, n: int = 1) -> None:
        self.n += n
        now = time.monotonic()
        if now - self.shown < self.interval:
            return
        self.shown = now
        seconds = (now - self.start) / max(self.n - self.initial, 1) * (self.total - self.n)
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
    first: float | None = None,
    **kwargs: Any,
) -> tqdm | _PlainBar:
    """Return a bar on a terminal, or else a line every `interval` seconds.

    The first line comes after `first` seconds if that is set. Both are context managers.
    """
    if style == 'bar' or (style == 'auto' and sys.stderr.isatty()):
        return tqdm(
            total=total, initial=initial, desc=desc, unit=unit, dynamic_ncols=True, **kwargs
        )
    return _PlainBar(total, initial, desc, interval, first)


def track(
    items: Iterable[T], desc: str, unit: str, show: bool = True, total: int | None = None
) -> Iterator[T]:
    """Iterate over items and, if ``show``, advance a :func:`progress_bar` after each.

    ``total`` is the number of items if they have no length.
    """
    if not show:
        yield from items
        return
    with progress_bar(len(items) if isinstance(items, Sized) else total or 0, desc, unit) as bar:
        for item in items:
            yield item
            bar.update()


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show the progress of a run and the remaining time.

    On a terminal, this is a bar with epoch, iterations, speed, remaining time and loss, and log
    lines scroll above it. Elsewhere (a file, a pipe, CI), a line is printed at intervals. Only the
    main process shows progress.

    Args:
        style: `bar`, `lines`, or `auto` to use a bar if standard error is a terminal.
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
        if isinstance(bar, tqdm) and not self.bars:  # print log lines above the bar
            self.redirect.enter_context(logging_redirect_tqdm([runner.logger]))
        self.bars[name] = bar

    def _close(self, name: str) -> None:
        bar = self.bars.pop(name, None)
        if bar is not None:
            bar.close()
            if not self.bars:
                self.redirect.close()

    def before_train(self, runner) -> None:
        """Open the bar at the current iteration, which is not 0 in a resumed run."""
        self._open(runner, 'train', runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Advance the bar by one iteration and show its loss."""
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
        """Close the training bar."""
        self._close('train')

    def before_val_epoch(self, runner) -> None:
        """Open a validation bar."""
        self._open(runner, 'val', len(runner.val_dataloader))

    def after_val_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance the bar by one batch."""
        if 'val' in self.bars:
            self.bars['val'].update()

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Close the validation bar."""
        self._close('val')

    def before_test_epoch(self, runner) -> None:
        """Open the test bar."""
        self._open(runner, 'test', len(runner.test_dataloader))

    def after_test_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance the bar by one batch."""
        if 'test' in self.bars:
            self.bars['test'].update()

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        """Close the test bar."""
        self._close('test')
