"""The machine's peak rates: matrix products and memory copies, the bounds for everything else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F

from projects.common.speed.products import linear

from . import measure
from .measure import Row, Settings, Step


def steps(settings: Settings) -> Iterator[Step]:
    """Yield products of square matrices and copies, with one thread and with all threads."""
    size, mebibytes = (256, 8) if settings.quick else (2048, 512)
    for threads in sorted({1, settings.threads}):
        make = partial(Step, 'machine', threads=threads)
        for dtype in ('float32', 'bfloat16'):
            run = partial(product, size, dtype, settings)
            yield make('matrix product', 'side', size, run, dtype=dtype,
                       against="PyTorch's float32 product")  # fmt: skip
        run = partial(copy, mebibytes, settings)
        yield make('memory copy', 'MiB', mebibytes, run, against='one thread')


@torch.inference_mode()
def product(size: int, dtype: str, settings: Settings) -> Row:
    a, b = torch.randn(2, size, size, device=settings.device)
    x, y = (t.to(getattr(torch, dtype)) for t in (a, b))
    rounds = 2 if settings.quick else 9
    row = measure.compare(lambda: linear(x, y), lambda: F.linear(a, b), settings, rounds)
    return dict(row, gflop=2 * size**3 / 1e9, gbyte=3 * size**2 * x.element_size() / 1e9)


@torch.inference_mode()
def copy(mebibytes: int, settings: Settings) -> Row:
    source = torch.ones(mebibytes * 2**18, device=settings.device)
    target = torch.empty_like(source)
    threads = torch.get_num_threads()

    def alone() -> None:
        torch.set_num_threads(1)
        target.copy_(source)
        torch.set_num_threads(threads)

    rounds = 2 if settings.quick else 9
    row = measure.compare(lambda: target.copy_(source), alone, settings, rounds)
    return dict(row, gbyte=2 * mebibytes * 2**20 / 1e9)
