"""Put the sections together and run what was chosen."""

from __future__ import annotations

import sys
import warnings
from itertools import takewhile
from pathlib import Path

import torch

import projects.pdsl.register
import projects.plvl.register
import projects.rvse.register  # noqa: F401
from projects.common.errors import InputError
from projects.common.weights.checkpoint import use_safe_checkpoint_loading

from . import compiled, environment, parity, precision, repeat, report, speed  # noqa: F401
from .processes import one_process
from .report import FAIL, SKIPPED, Context, chosen, is_pretended

__all__ = ['chosen', 'context_of', 'main', 'one_process']


def context_of(work_dir: Path, full: bool) -> Context:
    work_dir.mkdir(parents=True, exist_ok=True)
    # Python and the scripts that started this one; the options of this tool follow
    command = list(takewhile(lambda argument: not argument.startswith('--'), sys.orig_argv))
    return Context(work_dir.resolve(), full, is_pretended(), command)


def main(context: Context, only: list[str]) -> int:
    """Run the checks; return 1 if one failed, 0 otherwise."""
    checks = chosen(only)
    if not torch.cuda.is_available():
        raise InputError('PyTorch finds no GPU: python tools/misc/check_env.py says why')
    use_safe_checkpoint_loading()
    for name, value in report.machine().items():
        print(f'{name}: {value}')
    if context.pretended:
        print('The GPU is pretended: what needs its arithmetic or its clock is skipped.')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        lines = report.run(checks, context)
    path = report.write(lines, context)
    failed, skipped = (sum(x.status == status for x in lines) for status in (FAIL, SKIPPED))
    print(f'{len(lines)} lines, {failed} failed, {skipped} skipped: {path}')
    return int(failed > 0)
