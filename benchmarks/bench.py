"""Measure the cost of each project next to a plain baseline, and write a page of the results.

    python benchmarks/bench.py                    # everything; needs idle cores
    python benchmarks/bench.py --only plvl rvse   # some parts
    python benchmarks/bench.py --only pdsl/cues   # steps of a part whose name contains a word
    python benchmarks/bench.py --quick            # minutes: does everything run?
    python benchmarks/bench.py --page             # rewrite the page from the figures

Figures are written to benchmarks/results/MACHINE.csv after each measurement. An interrupted run
resumes where it stopped, and what was measured with the same versions is not measured again unless
`--again` is passed. docs/benchmarks.md is generated from that file alone. `--quick` is not a
measurement: its figures go to work_dirs/bench unless `--out` and `--docs` say otherwise.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import gpu, machine, pdsl, plvl, processes, rvse
from benchmarks.measure import Row, Settings, Step
from benchmarks.page import write_page
from benchmarks.table import Table, machine_name, versions
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.speed.allocator import keep_freed_memory
from projects.common.speed.products import fast_products

PARTS = {
    'machine': machine.steps,
    'plvl': plvl.steps,
    'pdsl': pdsl.steps,
    'rvse': rvse.steps,
    'processes': processes.steps,
    'gpu': gpu.steps,
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='PART[/WORDS]',
        help=f'parts among {", ".join(PARTS)}; after a slash, words that the name of a step '
        'contains (default: everything)',
    )  # fmt: skip
    parser.add_argument('--quick', action='store_true', help='use tiny sizes, to see that it runs')
    parser.add_argument('--again', action='store_true', help='repeat existing measurements')
    parser.add_argument('--page', action='store_true', help='only write the page')
    parser.add_argument('--rounds', type=int, help='rounds to take the median of (default: 3)')
    parser.add_argument('--out', type=Path, help='folder of the CSV (default: benchmarks/results)')
    parser.add_argument('--docs', type=Path, help='folder of the page (default: docs)')
    args = parser.parse_args()
    base = ROOT / 'work_dirs/bench' if args.quick else ROOT
    args.out = args.out or base / 'benchmarks/results'
    args.docs = args.docs or base / 'docs'
    return args


def chosen(only: list[str], settings: Settings) -> Iterator[Step]:
    """Yield the steps of the requested parts.

    Raises:
        InputError: The part does not exist, or none of its steps contains the words.
    """
    for name in only or PARTS:
        part, _, words = name.partition('/')
        if part not in PARTS:
            raise InputError(f'--only {name}: no such part; expected one of {", ".join(PARTS)}')
        steps = [step for step in PARTS[part](settings) if words in step.what]
        if only and not steps:
            raise InputError(f'--only {name}: nothing to measure on this machine')
        yield from steps


def key_of(step: Step, settings: Settings) -> Row:
    """Return the step's part of its rows."""
    names = ('project', 'what', 'size_name', 'size', 'unit', 'against', 'dtype', 'device')
    threads = step.threads or settings.threads
    return {**{name: getattr(step, name) for name in names},
            'threads': threads, 'versions': versions()}  # fmt: skip


def measure(step: Step, settings: Settings) -> list[Row]:
    """Run a step and return its rows, the step's own row last."""
    torch.set_num_threads(step.threads or settings.threads)
    found = step.run()
    rows = []
    for values in found if isinstance(found, list) else [found]:
        row = {**key_of(step, settings), **values}
        if row.get('stage'):
            row['what'] += f': {row["stage"]}'
        if row.get('baseline') is None:
            row['against'] = ''
        else:
            row['ratio'] = row['baseline'] / row['ours']
        rows.append(row)
    return rows


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    settings = Settings(args.quick, args.rounds or (1 if args.quick else 3), 'cpu', cores)
    table = Table(args.out / f'{machine_name(device)}{"-quick" * args.quick}.csv')
    for step in () if args.page else chosen(args.only, settings):
        if table.has(key_of(step, settings)) and not args.again:
            continue
        start = time.perf_counter()
        rows = measure(step, settings)
        table.append(rows)
        gc.collect()
        last = rows[-1]
        ratio = (
            f', {last["ratio"]:.2f} times as fast as {last["against"]}' if 'ratio' in last else ''
        )
        print(f'{step.project}: {step.what}, {step.size:,} {step.size_name}, {step.dtype}: '
              f'{last["ours"]:.4g} {last["unit"]}{ratio} ({time.perf_counter() - start:.0f} s)',
              flush=True)  # fmt: skip
    print(write_page(table, args.docs))


if __name__ == '__main__':
    with report_user_errors(), fast_products():
        main()
