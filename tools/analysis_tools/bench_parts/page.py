"""Generate the page of figures and its plots from the CSV alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .plots import draw_project, draw_roofline
from .roofline import Roof
from .table import Row, Table

PROJECTS = {
    'plvl': (
        'PLVL',
        'An image and a sentence give a box and a mask. The model is that of the paper (ViT-B, '
        'BERT-base), with random weights, on which speed does not depend.',
    ),
    'pdsl': (
        'PDSL',
        'Tags alone give boxes and masks: proposals and cues are made on the CPU, the network '
        '(ResNet18-WS) scores the proposals. Training is of a picture of 800 x 608 pixels; its '
        'cues stand apart. Foreground proposals have a mask each, most of the time of a '
        'step. Chunks trade time for memory.',
    ),
    'rvse': (
        'RVSE',
        'Similarities score 500 captions; the encoders and their training are those of RVSE++ '
        '(BERT-base, 36 regions a picture); galleries hold vectors of 1,024 floats.',
    ),
}
HEAD = """\
# Benchmarks

<!-- Written by tools/analysis_tools/bench.py from benchmarks/results/{name}.csv: edit neither. -->

`make bench` measures this on your machine: it writes `benchmarks/results/<machine>.csv`, a
measurement at a time, so that an interrupted run goes on where it was, and this page.
`make bench BENCH="--only plvl"` measures a part, `BENCH=--quick` tries everything with tiny sizes.
Leave the machine alone meanwhile.

All figures below are `ours`: {name}, {versions},
{threads} threads where nothing else is said. Weights and most inputs are random or the two
photographs that come with scikit-learn; no figure here says how good a model is.

How to read the tables: *ours* and *baseline* ran in turn in the same run, each figure is the median
of *n* rounds, and *times* is the baseline's time over ours. *Memory* is the most that a run takes
beyond what was there before it (models and inputs). *Limit* compares with what the machine can do,
measured in the same way: the arithmetic of the products at the rate of the largest product, and the
bytes that PyTorch's operators read and write at the rate of a copy. The larger of the two times is
the limit, and *near* is its share of the measured time. Above 100 % the caches served what the
estimate counts as memory, or convolutions ran faster than the large product.
"""
MISSING_GPU = """\
## GPU

Not run: this machine has none. Where there is one, `make bench` runs the same on it in float32 and
bf16, also by `torch.compile`, compares mmcv's CUDA operators with torchvision's, and writes how far
the results are from the CPU's.
"""


def write_page(table: Table, folder: Path) -> Path:
    """Write ``benchmarks.md`` and ``images/bench_*.png`` to a folder; return the page's path.

    Args:
        table: The figures.
        folder: The ``docs`` folder of the repository.
    """
    rows = table.numbers()
    images = folder / 'images'
    images.mkdir(parents=True, exist_ok=True)
    roof = Roof(rows)
    threads = max((int(row['threads']) for row in rows), default=1)
    latest = rows[-1]['versions'] if rows else 'nothing measured'
    parts = [HEAD.format(name=table.path.stem, versions=latest, threads=threads)]
    parts.append(_machine(rows, roof))
    costs = _costs(rows, roof)
    parts += [costs] if costs else []
    for device in ('cpu', 'cuda'):
        for project, (title, text) in PROJECTS.items():
            own = [r for r in rows if r['project'] == project and r['device'] == device]
            if not own:
                continue
            suffix = '' if device == 'cpu' else '_gpu'
            lines = [f'## {title}' + (' on the GPU' if suffix else ''), text]
            name = f'bench_{project}{suffix}.png'
            if draw_project(own, roof, images / name):
                lines.append(f'![{title}: time by size, ours and the baseline](images/{name})')
            lines += [*_note(own, roof), *_tables(own, roof)]
            parts.append('\n\n'.join(lines) + '\n')
    if draw_roofline(rows, roof, images / 'bench_roofline.png'):
        parts.append(
            '## Roofline\n\n'
            '![Speed of every part by its arithmetic per byte](images/bench_roofline.png)\n'
        )
    if all(row['device'] == 'cpu' for row in rows):
        parts.append(MISSING_GPU)
    page = folder / 'benchmarks.md'
    page.write_text('\n'.join(parts), encoding='utf-8')
    return page


def _machine(rows: Sequence[Row], roof: Roof) -> str:
    lines = ['## The machine', '']
    lines += [
        '| | threads | size | ours | baseline | times | rate |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        if row['project'] == 'machine':
            rate = (
                f'{row["gflop"] / row["ours"]:,.0f} GFLOP/s' if row['gflop']
                else f'{row["gbyte"] / row["ours"]:.1f} GB/s'
            )  # fmt: skip
            dtype = f', {row["dtype"]}' if row['gflop'] else ''
            lines.append(
                f'| {row["what"]}{dtype}, {row["device"]} | {row["threads"]} | '
                f'{_size(row["size"])} {row["size_name"]} | '
                f'{_time(row["ours"])} | {_time(row["baseline"])} ({row["against"]}) | '
                f'{row["ratio"]:.2f} | {rate} |'
            )
    return '\n'.join(lines) + '\n'


def _costs(rows: Sequence[Row], roof: Roof) -> str:
    """Tabulate the most expensive stages per sample, for each project and overall."""
    stages = [
        row for row in rows
        if row['unit'] == 's' and row['device'] == 'cpu' and row['dtype'] == 'float32'
        and row['project'] in PROJECTS
        and (': ' in row['what'] or row['what'].endswith(('cues', 'proposals')))
        and not row['what'].startswith(('gallery', 'inference by size'))
    ]  # fmt: skip
    largest: dict[tuple, Row] = {}
    for row in stages:  # keep the largest size of each stage
        key = (row['project'], row['what'])
        if key not in largest or row['size'] > largest[key]['size']:
            largest[key] = row
    ordered = sorted(largest.values(), key=_each, reverse=True)
    if not ordered:
        return ''
    lines = [
        '## The largest costs that remain',
        '',
        'Seconds a sample of every stage of training and use, at the largest size measured. The '
        'first three of all, then the first three of each project:',
        '',
        '| | stage | size | seconds a sample | times | limit | near |',
        '|---|---|---|---|---|---|---|',
    ]
    chosen = [('all', row) for row in ordered[:3]]
    for project, (title, _) in PROJECTS.items():
        own = [row for row in ordered if row['project'] == project][:3]
        chosen += [(title, row) for row in own]
    for title, row in chosen:
        name = row['what'] if title != 'all' else f'{PROJECTS[row["project"]][0]}, {row["what"]}'
        limit, near = roof.cells(row)
        ratio = '' if row['ratio'] is None else f'{row["ratio"]:.2f}'
        lines.append(
            f'| {title} | {name} | {_size(row["size"])} {row["size_name"]} | {_each(row):.3g} | '
            f'{ratio} | {limit} | {near} |'
        )
    return '\n'.join(lines) + '\n'


def _note(rows: Sequence[Row], roof: Roof) -> list[str]:
    """Describe what limits parts of at least a millisecond, and the extremes of their limits."""
    found = [(row, *limit) for row in rows if row['unit'] == 's' and row['ours'] > 1e-3
             and (limit := roof.limit(row))]  # fmt: skip
    if not found:
        return []
    sentences = []
    for name in ('arithmetic', 'memory'):
        own = sorted((part for part in found if part[1] == name), key=lambda part: part[2])
        if own:
            (low, _, least), (high, _, most) = own[0], own[-1]
            sentences.append(
                f'{len(own)} of {len(found)} parts are limited by {name}: from {100 * least:.0f} % '
                f'({_part(low)}) to {100 * most:.0f} % ({_part(high)}) of what it allows.'
            )
    return [' '.join(sentences)]


def _part(row: Row) -> str:
    return f'{row["what"]}, {_size(row["size"])} {row["size_name"]}, {row["dtype"]}'


def _each(row: Row) -> float:
    """Return the seconds per sample."""
    return row['ours'] / (row['size'] if row['size_name'] in ('images', 'pairs') else 1)


def _tables(rows: Sequence[Row], roof: Roof) -> list[str]:
    """Build one table per quantity, with its stages below it."""
    tables = []
    for what in dict.fromkeys(row['what'].partition(': ')[0] for row in rows):
        own = [row for row in rows if row['what'].partition(': ')[0] == what]
        whole = [row for row in own if row['what'] == what]
        tables.append(f'### {what[0].upper()}{what[1:]}')
        against = dict.fromkeys(row['against'] for row in own if row['against'])
        note = f'Baseline: {"; ".join(against)}.' if against else 'No baseline.'
        tables.append(note)
        tables.append(_table(whole or own, roof))
        stages = [row for row in own if row['what'] != what]
        if whole and stages:
            tables.append(_table(stages, roof))
    return tables


def _table(rows: Sequence[Row], roof: Roof) -> str:
    staged = any(': ' in row['what'] for row in rows)
    columns: dict[str, Callable[[Row], str]] = {
        'stage': lambda row: row['what'].partition(': ')[2],
        rows[0]['size_name']: lambda row: _size(row['size']),
        'dtype': lambda row: row['dtype'],
        'ours': lambda row: _value(row['ours'], row['unit']),
        'baseline': lambda row: _value(row['baseline'], row['unit']),
        'times': lambda row: '' if row['ratio'] is None else f'{row["ratio"]:.2f}',
        'a second': _rate,
        'memory': lambda row: _memory(row['peak_mib']),
        "baseline's": lambda row: _memory(row['baseline_peak_mib']),
        'limit': lambda row: roof.cells(row)[0],
        'near': lambda row: roof.cells(row)[1],
        'n': lambda row: row['repeats'],
    }
    if not staged:
        del columns['stage']
    cells = {name: [column(row) for row in rows] for name, column in columns.items()}
    cells = {name: values for name, values in cells.items() if any(values)}
    if set(cells['dtype']) == {'float32'}:
        del cells['dtype']
    lines = [f'| {" | ".join(cells)} |', '|' + '---|' * len(cells)]
    lines += [f'| {" | ".join(line)} |' for line in zip(*cells.values())]
    return '\n'.join(lines)


def _size(value: float) -> str:
    return f'{value:,.0f}'


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ''
    return _time(value) if unit == 's' else f'{value:.3g} {unit}'


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ''
    return f'{seconds:.3g} s' if seconds >= 1 else f'{1e3 * seconds:.3g} ms'


def _memory(mebibytes: float | None) -> str:
    return '' if mebibytes is None else f'{mebibytes:,.0f} MiB'


def _rate(row: Row) -> str:
    """Return the rate per second in the counted unit."""
    if row['unit'] == 'us/pair':
        return f'{1e6 / row["ours"]:,.0f} pairs'
    counted = ('images', 'sentences', 'pairs', 'masks')
    many = row['size'] if row['size_name'] in counted else 1
    if row['unit'] != 's' or ': ' in row['what'] or row['size_name'] == 'processes':
        return ''
    return f'{many / row["ours"]:.3g}'
