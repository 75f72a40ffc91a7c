"""Time the steps of ``make bench`` in several states of the repository, in turn.

    git worktree add --detach ../before COMMIT && ln -s "$PWD/.venv" ../before/.venv
    python .dev/bench_states.py ../before . --steps plvl/prediction/448/float32 rvse/encoders

A round runs a step in each folder, one process after the other, so that a change of the machine's
speed meets all of them. The table has the medians over the rounds, and the last folder's time
divided by that of each other one. Steps are named as in ``bench.py --only``, with the size and the
type of numbers after further slashes if not all of them are meant.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

PLACES = ('benchmarks/bench.py', 'tools/analysis_tools/bench.py')
# Older states have no choice of sizes.
CODE = """
import contextlib, sys
place, part, size, dtype, *arguments = sys.argv[1:]
sys.path.insert(0, place)
import bench
every = bench.chosen
bench.chosen = lambda *args: (
    s for s in every(*args) if size in ('', str(s.size)) and dtype in ('', s.dtype)
)
sys.argv = ['bench.py', '--only', part, '--again', '--rounds', '1', *arguments]
with getattr(bench, 'fast_products', contextlib.nullcontext)():
    bench.main()
"""
KEY = ('project', 'what', 'size', 'dtype')
RENAMED = {'picture': 'image'}  # in the names of steps of older states

Times = dict[tuple[str, ...], list[list[float]]]


def run_step(folder: Path, step: str) -> list[dict[str, str]]:
    """Run one step in a folder and return its rows, none if it fails, which it says itself."""
    place = next(Path(place).parent for place in PLACES if (folder / place).is_file())
    part, words, size, dtype = (*step.split('/'), '', '', '')[:4]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, '-c', CODE, str(place), f'{part}/{words}', size, dtype]
        subprocess.run([*command, '--out', out, '--docs', out], cwd=folder, stdout=sys.stderr)
        rows = []
        for table in Path(out).glob('*.csv'):
            with table.open() as file:
                rows += list(csv.DictReader(file))
        return rows


def key_of(row: dict[str, str]) -> tuple[str, ...]:
    what = row['what']
    for old, new in RENAMED.items():
        what = what.replace(old, new)
    return tuple({**row, 'what': what}[name] for name in KEY)


def print_table(times: Times, folders: list[Path]) -> None:
    """Print the steps that were measured in the last folder and in another one."""
    *others, last = (folder.resolve().name for folder in folders)
    names = [*others, last, *(f'{last} / {other}' for other in others)]
    print(f'| step | size | dtype | {" | ".join(names)} |')
    print('|---|---|---|' + '---|' * len(names))
    for (project, what, size, dtype), by_folder in times.items():
        medians = [statistics.median(seconds) if seconds else None for seconds in by_folder]
        *before, now = medians
        if now is None or not any(before):
            continue
        cells = ['-' if m is None else f'{m:.4g}' for m in medians]
        cells += ['-' if m is None else f'{now / m:.2f}' for m in before]
        print(f'| {project}: {what} | {size} | {dtype} | {" | ".join(cells)} |')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folders', nargs='+', type=Path, help='working trees, the newest last')
    parser.add_argument('--steps', nargs='+', required=True, metavar='PART/WORDS/SIZE/DTYPE')
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    times: Times = defaultdict(lambda: [[] for _ in args.folders])
    for step in args.steps:
        for number in range(args.rounds):
            for seconds, folder in enumerate(args.folders):
                for row in run_step(folder, step):
                    times[key_of(row)][seconds].append(float(row['ours']))
            print(f'{step}: round {number + 1} of {args.rounds}', file=sys.stderr, flush=True)
        print_table({key: times[key] for key in times}, args.folders)


if __name__ == '__main__':
    main()
