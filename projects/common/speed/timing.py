"""Time several variants in turn, measure their memory and print tables."""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError

__all__ = ['PeakMemory', 'show_table', 'synchronize', 'time_in_turn']


def synchronize(device: str) -> None:
    """Wait for all work on a CUDA device; do nothing on other devices."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def time_in_turn(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = 'cpu',
    warm_up: int = 2,
) -> dict[str, float]:
    """Measure the median time of each variant in seconds.

    Every round runs each variant once, so that a change in the speed of the machine affects all of
    them equally.

    Args:
        variants: The functions to time, by name.
        rounds: Number of measured rounds.
        device: The device on which they run; CUDA devices are synchronized.
        warm_up: Number of unmeasured rounds before those.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(-warm_up, rounds):
        for name, run in variants.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


class PeakMemory:
    """Measure the peak increase in memory use inside the context, in bytes, as ``peak``.

    On a CPU, it samples the process's anonymous memory every two milliseconds.

    Args:
        device: The device whose memory is measured.

    Raises:
        InputError: The system is not Linux.
    """

    peak: int

    def __init__(self, device: str = 'cpu') -> None:
        self.cuda = device.startswith('cuda')

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.peak = max(self.peak, _anonymous_bytes() - self._before)

    def __enter__(self) -> PeakMemory:
        """Start measuring; ``peak`` counts from here."""
        self.peak = 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            _anonymous_bytes()  # raises if memory use cannot be measured
            ctypes.CDLL(None).malloc_trim(0)  # return freed memory, so that it does not count
            self._before = _anonymous_bytes()
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._watch)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop measuring and keep ``peak``."""
        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated() - self._before
            return
        self._done.set()
        self._thread.join()


def _anonymous_bytes() -> int:
    """Return the memory of this process that is not backed by a file, in bytes."""
    status = Path('/proc/self/status')
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith('RssAnon:'):
            return int(line.split()[1]) * 1024
    raise InputError('/proc/self/status: no RssAnon; memory is measured on Linux only')


def show_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table with the columns of all rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)
    ]
    print('  '.join(column.ljust(width) for column, width in zip(columns, widths, strict=True)))
    for line in cells:
        print('  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def _text(value: object) -> str:
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.1e}' if 0 < abs(value) < 1e-2 else f'{value:.2f}'
    return str(value)
