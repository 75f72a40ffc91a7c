"""Compare a run with its baseline: time by stage, peak memory, arithmetic and memory traffic."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import projects.common.stack  # noqa: F401  (without its notices)
from projects.common.build import build_quietly
from projects.common.cli.config import load_config
from projects.common.errors import InputError
from tools.analysis_tools.get_flops import operations_counter

ROOT = Path(__file__).resolve().parents[1]
WHOLE = ''  # the stage that is the whole run

Row = dict[str, Any]
Stage = Callable[..., Any]
"""``stage(name, function, *inputs)`` runs a stage of a run and returns the function's result."""
Run = Callable[[Stage], object]


@dataclass(frozen=True)
class Settings:
    """Hold the device, the rounds and the size of all measurements; ``quick`` is a trial run."""

    quick: bool = False
    rounds: int = 3
    device: str = 'cpu'
    threads: int = 1

    def sizes(self, full: tuple[int, ...], quick: tuple[int, ...]) -> tuple[int, ...]:
        return quick if self.quick else full


@dataclass(frozen=True)
class Step:
    """Describe a measurement: the key of its row in the table, and the function to call.

    Args:
        run: Returns one row or several, as :func:`compare` and :func:`compare_stages` do. A row
            with ``stage`` is named after the step and the stage; a row can also override any
            value of the key.
    """

    project: str
    what: str
    size_name: str
    size: int
    run: Callable[[], Row | list[Row]] = field(compare=False)
    unit: str = 's'
    against: str = ''
    dtype: str = 'float32'
    threads: int | None = None
    device: str = 'cpu'


class Clock:
    """Run stages and keep the seconds of each."""

    def __init__(self, device: str = 'cpu') -> None:
        self.cuda = device.startswith('cuda')
        self.seconds: dict[str, list[float]] = {}

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def __call__(self, name: str, function: Callable, *inputs: Any) -> Any:
        start = self._now()
        result = function(*inputs)
        self.seconds.setdefault(name, []).append(self._now() - start)
        return result


class PeakMemory:
    """Measure the peak increase in memory use inside the context, in bytes, as ``peak``.

    On a CPU, sample the process's anonymous memory every two milliseconds.

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
        self.peak = 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            return self
        _anonymous_bytes()  # raises if memory use cannot be measured
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory, so that it does not count
        self._before = _anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated() - self._before
        else:
            self._done.set()
            self._thread.join()


def _anonymous_bytes() -> int:
    """Return the memory of this process that is not backed by a file."""
    status = Path('/proc/self/status')
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith('RssAnon:'):
            return int(line.split()[1]) * 1024
    raise InputError('/proc/self/status: no RssAnon; memory is measured on Linux only')


class Traffic(TorchDispatchMode):
    """Count the bytes that all operators would read and write if nothing were cached."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        aliases = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
        if not aliases or any(alias.is_write for alias in aliases):  # views move nothing
            for leaf in tree_leaves((args, kwargs, out)):
                if isinstance(leaf, Tensor):
                    self.total += _bytes(leaf)
        return out


def _bytes(tensor: Tensor) -> int:
    """Return the size of a tensor in bytes; an expanded tensor counts only its storage."""
    entries = tensor.numel() * tensor.element_size()
    if tensor.layout != torch.strided:  # weights in a layout specific to oneDNN
        return entries
    return min(entries, tensor.untyped_storage().nbytes())


def count_work(run: Run) -> dict[str, Row]:
    """Count ``gflop`` of products and ``gbyte`` of uncached memory traffic for each stage.

    The traffic is that of PyTorch's operators; a library that fuses operators moves less.
    """
    counts: dict[str, Row] = {}

    def stage(name: str, function: Callable, *inputs: Any) -> Any:
        with operations_counter() as operations, Traffic() as traffic:
            result = function(*inputs)
        counts[name] = dict(gflop=operations.get_total_flops() / 1e9, gbyte=traffic.total / 1e9)
        return result

    run(stage)
    if counts:
        counts[WHOLE] = {
            name: sum(row[name] for row in counts.values()) for name in ('gflop', 'gbyte')
        }
    else:
        stage(WHOLE, run, stage)
    return counts


def compare_stages(
    ours: Run,
    baseline: Run | None,
    settings: Settings,
    rounds: int | None = None,
    counted: bool = True,
) -> list[Row]:
    """Time two runs in turn, so that a change in the machine's speed affects both equally.

    Args:
        ours: Runs its stages through the ``stage`` function passed to it.
        baseline: Same for the baseline; None measures ours alone.
        settings: Device and rounds.
        rounds: Replaces those of the settings.
        counted: Whether to count the work of ours.

    Returns:
        A row for each stage and, last, one for the whole run, with ``stage``, the median seconds
        ``ours`` and ``baseline``, and ``repeats``. The last row has the peak memory in MiB.
    """
    runs = {'ours': ours, **({'baseline': baseline} if baseline else {})}
    peaks = {}
    for name, run in runs.items():  # also warms up
        with PeakMemory(settings.device) as memory:
            run(Clock(settings.device))
        peaks[name] = memory.peak / 2**20
    clocks = {name: Clock(settings.device) for name in runs}
    repeats = rounds or settings.rounds
    for _ in range(repeats):
        for name, run in runs.items():
            clocks[name](WHOLE, run, clocks[name])
    counts = count_work(ours) if counted else {}
    rows = []
    for stage in clocks['ours'].seconds:
        medians = {name: statistics.median(clock.seconds[stage]) for name, clock in clocks.items()}
        rows.append(dict(medians, stage=stage, repeats=repeats, **counts.get(stage, {})))
    rows[-1].update(peak_mib=peaks['ours'], baseline_peak_mib=peaks.get('baseline'))
    return rows


def compare(
    ours: Callable[[], object],
    baseline: Callable[[], object] | None,
    settings: Settings,
    rounds: int | None = None,
    counted: bool = False,
) -> Row:
    """Time two functions in turn; see :func:`compare_stages`."""
    runs = [run and (lambda stage, run=run: run()) for run in (ours, baseline)]
    return compare_stages(*runs, settings, rounds, counted)[0]


@contextlib.contextmanager
def plain_products() -> Iterator[None]:
    """Run plain PyTorch, without the products and the cost per call of ``fast_products``."""
    with torch._C.DisableTorchFunction():
        yield


def ignore_stages(name: str, function: Callable, *inputs: Any) -> Any:
    """Call the function of a stage that is not measured by itself."""
    return function(*inputs)


def training_step(
    loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, stage: Stage
) -> None:
    """Run one step of a training, as three stages."""
    stage('backward', stage('forward', loss).backward)
    stage('optimizer step', optimizer.step)
    optimizer.zero_grad()


def build(
    name: str, device: str = 'cpu', change: Callable[[ConfigDict], object] | None = None
) -> nn.Module:
    """Build the model of a config such as ``plvl/NAME`` with random weights.

    Args:
        name: Path of the config below ``configs/``, without suffix.
        device: Device of the model.
        change: Modifies the model's config first.
    """
    cfg = load_config(ROOT / f'configs/{name}.py')
    if change:
        change(cfg.model)
    torch.manual_seed(0)
    with torch.inference_mode(False):  # the model may also be trained
        return build_quietly(cfg.model, cfg.default_scope).to(device)


def photographs() -> list[Path]:
    """Return the paths of scikit-learn's two photographs, 640 x 427 pixels."""
    with as_file(files('sklearn.datasets') / 'images') as folder:
        return sorted(Path(folder).glob('*.jpg'))
