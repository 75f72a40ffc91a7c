"""Timing several things in turn, and tables of what came out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = ['show_table', 'synchronize', 'time_in_turn']


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
