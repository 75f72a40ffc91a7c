"""Arithmetic and memory traffic of a run, and its time next to a baseline's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch
from get_flops import operations_counter
from mmengine.config import Config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from projects.common.cli.config import load_config
from projects.common.speed import products
from projects.common.speed.timing import PeakMemory, time_in_turn

from .table import Row

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
Run = Callable[[], object]


def config_of(name: str) -> Config:
    """Load a config of this repository, such as ``plvl/NAME``."""
    return load_config(CONFIGS / f'{name}.py')


@dataclass(frozen=True)
class Settings:
    """Hold the device, the repeats and the size of measurements; ``quick`` is only a trial run."""

    quick: bool = False
    rounds: int = 3
    device: str = 'cpu'
    threads: int = 1

    def sizes(self, full: tuple[int, ...], quick: tuple[int, ...]) -> tuple[int, ...]:
        return quick if self.quick else full


@dataclass(frozen=True)
class Step:
    """Represent a measurement: the key of its row, and the function that produces the row.

    Args:
        run: Returns a dict with ``ours``, ``baseline`` and so on (see :func:`beside`), or a list of
            such dicts. The step's own dict comes last; the others give their name in ``what``.
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


class Bytes(TorchDispatchMode):
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


def work(run: Run) -> Row:
    """Return ``gflop`` and ``gbyte`` of a run: operations of products and uncached memory traffic.

    The traffic is that of PyTorch's operators; a library that fuses operators moves less.
    """
    with operations_counter() as operations, Bytes() as traffic:
        run()
    return dict(gflop=operations.get_total_flops() / 1e9, gbyte=traffic.total / 1e9)


@contextmanager
def plain_products() -> Iterator[None]:
    """Use PyTorch's default matrix products."""
    with mock.patch.object(products, '_ONEDNN', None):
        yield


def beside(ours: Run, baseline: Run | None, settings: Settings, rounds: int | None = None) -> Row:
    """Time both in turn; return their medians and peak memory.

    Returns:
        ``ours``, ``baseline`` (seconds), ``peak_mib``, ``baseline_peak_mib``, ``repeats``.
    """
    variants = {'ours': ours} if baseline is None else {'ours': ours, 'baseline': baseline}
    peaks = {}
    for name, run in variants.items():  # also warms up
        with PeakMemory(settings.device) as memory:
            run()
        peaks[name] = memory.peak / 2**20
    repeats = rounds or settings.rounds
    seconds = time_in_turn(variants, repeats, settings.device, warm_up=0)
    return dict(
        ours=seconds['ours'],
        baseline=seconds.get('baseline'),
        peak_mib=peaks['ours'],
        baseline_peak_mib=peaks.get('baseline'),
        repeats=repeats,
    )
