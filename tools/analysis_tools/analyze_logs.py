"""Plot and compare losses and metrics of runs, and summarise the time per iteration.

python tools/analysis_tools/analyze_logs.py work_dirs/a work_dirs/b --keys loss --out curves.png
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError


def read_run(path: Path) -> list[dict]:
    """Read all scalars, in order, from a work folder (joining the logs of all starts) or a file."""
    files = [path] if path.is_file() else sorted(path.glob('**/vis_data/scalars.json'))
    if not files:
        raise InputError(
            f'{path}: neither a scalars.json nor a folder with */vis_data/scalars.json'
        )
    records = []
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number == len(file.read_text().splitlines()):  # cut short by a kill
                    continue
                raise InputError(f'{file}, line {number}: not JSON ({error})') from error
    return records


def curve(records: list[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of `key`; if a resumed run repeats a step, the later value counts."""
    points = {
        record['step']: record[key] for record in records if key in record and 'step' in record
    }
    steps = np.array(sorted(points))
    return steps, np.array([points[step] for step in steps])


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Compute the running mean over the last `window` values."""
    if window <= 1 or len(values) == 0:
        return values
    sums = np.cumsum(np.insert(values.astype(float), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def summary(name: str, records: list[dict], keys: list[str]) -> str:
    times = np.array([r['time'] for r in records if 'time' in r and 'iter' in r])
    waits = np.array([r['data_time'] for r in records if 'data_time' in r and 'iter' in r])
    text = f'{name}: '
    if len(times):
        text += (
            f'{times.mean():.4f} s per iteration (median {np.median(times):.4f}, slowest log line '
            f'{times.max():.4f}), '
            f'{waits.mean():.4f} s of it waiting for data'
        )
    for key in keys:
        steps, values = curve(records, key)
        if len(steps):
            best = values.argmin() if 'loss' in key else values.argmax()
            text += (
                f'\n  {key}: last {values[-1]:.4g}, best {values[best]:.4g} at step {steps[best]}'
            )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description='Plot and compare runs')
    parser.add_argument('runs', nargs='+', type=Path, help='work folders or scalars.json files')
    parser.add_argument(
        '--keys', nargs='+', default=['loss'], help='scalars to plot, one panel each'
    )
    parser.add_argument(
        '--names', nargs='+', help='names of the runs in the legend; default: their folders'
    )
    parser.add_argument('--smooth', type=int, default=1, help='running mean over so many log lines')
    parser.add_argument(
        '--out',
        type=Path,
        help='image to write (.png, .pdf or .svg); without it only the summary',
    )
    args = parser.parse_args()
    if args.names and len(args.names) != len(args.runs):
        raise InputError(f'--names: {len(args.names)} names for {len(args.runs)} runs')
    names = args.names or [str(run) for run in args.runs]
    runs = {name: read_run(path) for name, path in zip(names, args.runs)}
    available = sorted({key for records in runs.values() for record in records for key in record})
    for key in args.keys:
        if key not in available:
            raise InputError(f'--keys {key}: no run logs it; there are {", ".join(available)}')
    for name, records in runs.items():
        print(summary(name, records, args.keys))
    if args.out is None:
        return
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(args.keys), figsize=(6 * len(args.keys), 4), squeeze=False)
    for axis, key in zip(axes[0], args.keys):
        for name, records in runs.items():
            steps, values = curve(records, key)
            axis.plot(
                steps,
                smooth(values, args.smooth),
                label=name,
                marker='o' if len(steps) < 20 else None,
            )
        axis.set(xlabel='step', ylabel=key)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    with report_user_errors():
        main()
