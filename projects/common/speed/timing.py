"""Timing several things in turn, their memory, and tables of what came out."""

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
    """Waits for what runs on a CUDA device; nothing to wait for on others."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def time_in_turn(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = 'cpu',
    warm_up: int = 2,
) -> dict[str, float]:
    """Median seconds of each variant.

    Every round runs each of them once, so that a machine whose speed changes slows all alike.

    Args:
        variants: What to run, by name.
        rounds: Rounds that count.
        device: Where they run; CUDA is waited for.
        warm_up: Rounds before those.
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
    """Highest use of memory meanwhile, beyond what was used before, in bytes: ``peak``.

    On a CPU it is memory that no file backs, looked at every two milliseconds.

    Args:
        device: Whose memory.

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
        """Starts to watch; ``peak`` counts from here."""
        self.peak = 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            _anonymous_bytes()  # raises where memory cannot be known
            ctypes.CDLL(None).malloc_trim(0)  # what was freed is no use of memory
            self._before = _anonymous_bytes()
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._watch)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops; ``peak`` stays."""
        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated() - self._before
            return
        self._done.set()
        self._thread.join()


def _anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    status = Path('/proc/self/status')
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith('RssAnon:'):
            return int(line.split()[1]) * 1024
    raise InputError('/proc/self/status: no RssAnon; memory is measured on Linux only')


def show_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a table with the columns of all rows."""
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
