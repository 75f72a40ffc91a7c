"""Cost of each stage of a run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from projects.common.speed.timing import PeakMemory, synchronize

from .table import Row
from .work import Settings, work

Stage = Callable[..., object]
"""``stage(name, function, *inputs)`` runs a stage and returns the function's result."""


class _Seconds:
    def __init__(self, device: str) -> None:
        self.device = device
        self.found: dict[str, list[float]] = {}

    def __call__(self, name: str, function: Callable, *inputs):
        synchronize(self.device)
        start = time.perf_counter()
        result = function(*inputs)
        synchronize(self.device)
        self.found.setdefault(name, []).append(time.perf_counter() - start)
        return result


def staged(
    what: str,
    ours: Callable[[Stage], object],
    baseline: Callable[[Stage], object],
    settings: Settings,
) -> list[Row]:
    """Measure medians per stage and in total, alternating between ours and the baseline.

    Args:
        what: Name of the run. The row of a stage is named after the run and the stage, the last row
            after the run alone.
        ours: Runs all stages through the ``stage`` callable passed to it.
        baseline: Same for the baseline.
    """
    counted: dict[str, Row] = {}

    def count(name: str, function: Callable, *inputs):
        result = []
        counted[name] = work(lambda: result.append(function(*inputs)))
        return result[0]

    ours(count)
    peaks = []
    for run in (ours, baseline):
        with PeakMemory(settings.device) as memory:
            run(_Seconds(settings.device))
        peaks.append(memory.peak / 2**20)
    one, other = _Seconds(settings.device), _Seconds(settings.device)
    for _ in range(settings.rounds):
        ours(one)
        baseline(other)
    rows = [
        dict(
            counted[name],
            what=f'{what}: {name}',
            ours=statistics.median(seconds),
            baseline=statistics.median(other.found[name]),
            repeats=settings.rounds,
        )
        for name, seconds in one.found.items()
    ]
    whole = dict(
        ours=statistics.median(map(sum, zip(*one.found.values()))),
        baseline=statistics.median(map(sum, zip(*other.found.values()))),
        peak_mib=peaks[0],
        baseline_peak_mib=peaks[1],
        gflop=sum(row['gflop'] for row in counted.values()),
        gbyte=sum(row['gbyte'] for row in counted.values()),
        repeats=settings.rounds,
    )
    return [*rows, whole]
