"""Checks, what they find, the table on the terminal and the files of the report."""

from __future__ import annotations

import ctypes
import json
import math
import platform
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from projects.common.errors import InputError

OK, FAIL, SKIPPED = 'ok', 'FAIL', 'skipped'
# In the order in which they run
SECTIONS = ('environment', 'parity', 'precision', 'deterministic', 'processes', 'speed', 'compile')


class Skipped(Exception):
    """Say why a check cannot be made here."""


@dataclass
class Finding:
    """Hold a figure and its limit; it is good if it does not exceed the limit.

    Args:
        what: What was measured.
        figure: A number, or True for a property that holds.
        limit: The largest good number, the least one if ``least``, or True for a property.
        advice: What to do if it is not good; None takes that of the check.
    """

    what: str
    figure: float | bool
    limit: float | bool = True
    advice: str | None = None
    least: bool = False

    def good(self) -> bool:
        if isinstance(self.limit, bool):
            return self.figure is self.limit
        return self.figure >= self.limit if self.least else self.figure <= self.limit  # not NaN


@dataclass
class Line:
    """Hold a line of the table."""

    status: str
    check: str
    figure: str = ''
    limit: str = ''
    advice: str = ''
    detail: str = ''


@dataclass
class Context:
    """Hold what the checks share.

    Args:
        work_dir: Folder for data and checkpoints.
        full: Use the sizes of the papers where the check has two.
        pretended: Whether the GPU is the pretended one of the tests, whose arithmetic is the CPU's.
        command: Command that starts this tool in another process.
    """

    work_dir: Path
    full: bool = False
    pretended: bool = False
    command: list[str] = field(default_factory=list)


Run = Callable[[Context], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """Hold a check: ``name`` is ``section/part``, ``real`` says why it needs a real GPU."""

    name: str
    run: Run
    advice: str
    real: str | None = None


CHECKS: list[Check] = []


def check(name: str, advice: str, real: str | None = None) -> Callable[[Run], Run]:
    """Add a function to the checks."""

    def add(run: Run) -> Run:
        CHECKS.append(Check(name, run, advice, real))
        return run

    return add


def is_pretended() -> bool:
    """Return whether the CUDA runtime is the one of tests/pretended_gpu."""
    return hasattr(ctypes.CDLL(None), 'pretended_gpu_counts')


def chosen(only: list[str]) -> list[Check]:
    """Return the checks whose names begin with one of ``only``; all if it is empty.

    Raises:
        InputError: A name fits no check.
    """
    for prefix in only:
        if not any(_begins(c.name, prefix) for c in CHECKS):
            raise InputError(f'--only: found {prefix}; expected a name that --list prints')
    found = [c for c in CHECKS if not only or any(_begins(c.name, prefix) for prefix in only)]
    return sorted(found, key=lambda c: SECTIONS.index(c.name.split('/')[0]))


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip('/') + '/')


def make(one: Check, context: Context) -> Iterator[Line]:
    """Make a check and yield its lines."""
    if one.real and context.pretended:
        yield Line(SKIPPED, one.name, advice=f'pretended GPU: {one.real}')
        return
    try:
        for found in one.run(context):
            good = found.good()
            advice = '' if good else found.advice or one.advice
            limit = _text(found.limit) if isinstance(found.limit, bool) else (
                f'{">=" if found.least else "<="} {_text(found.limit)}'
            )  # fmt: skip
            name = f'{one.name}: {found.what}'
            yield Line(OK if good else FAIL, name, _text(found.figure), limit, advice)
    except Skipped as reason:
        yield Line(SKIPPED, one.name, advice=str(reason))
    except Exception as error:  # a check that cannot be made has failed; the others go on
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = f'{text} | {one.advice}'
        detail = traceback.format_exc()
        yield Line(FAIL, one.name, type(error).__name__, 'none', advice, detail)
    finally:
        torch.use_deterministic_algorithms(False)


def _text(value: float | bool) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f'{value:.3g}'


def run(checks: list[Check], context: Context) -> list[Line]:
    """Make checks, printing every line as soon as it is known."""
    lines = []
    for one in checks:
        start = time.perf_counter()
        for line in make(one, context):
            lines.append(line)
            print(row(line), flush=True)
        print(f'{"":9}{one.name}: {time.perf_counter() - start:.1f} s', flush=True)
    return lines


def row(line: Line) -> str:
    """Return a line of the table as it is printed."""
    text = f'{line.status:8} {line.check:58} {line.figure:>11}  {line.limit:10}'
    if line.advice:
        text += '\n' + textwrap.indent(textwrap.fill(line.advice, 90), ' ' * 9)
    return text.rstrip()


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    found = {'python': platform.python_version(), 'torch': torch.__version__}
    if torch.cuda.is_available():
        found |= {
            'GPU': f'{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}',
            'compute capability': '{}.{}'.format(*torch.cuda.get_device_capability(0)),
            'CUDA of PyTorch': str(torch.version.cuda),
        }
    return found


def write(lines: list[Line], context: Context) -> Path:
    """Write ``report.md`` and ``report.json`` into the work folder; return the former."""
    facts = machine()
    content = dict(machine=facts, pretended=context.pretended, lines=[asdict(x) for x in lines])
    (context.work_dir / 'report.json').write_text(json.dumps(content, indent=1) + '\n')
    text = ['# GPU check', '', *(f'- {name}: {value}' for name, value in facts.items()), '']
    text += ['| | check | figure | limit | what to do |', '|---|---|---|---|---|']
    for x in lines:
        cells = (x.status, x.check, x.figure, x.limit, x.advice)
        text.append('| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |')
    for x in lines:
        if x.detail:
            text += ['', f'## {x.check}', '', '```', x.detail.rstrip(), '```']
    path = context.work_dir / 'report.md'
    path.write_text('\n'.join(text) + '\n')
    return path
