"""Write the page of figures from the CSV alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .table import Table

Row = dict[str, Any]

PROJECTS = {
    'machine': (
        'The machine',
        'These rates bound all other figures.',
    ),
    'plvl': (
        'PLVL',
        'Predict a box and a mask for an image and a sentence. The model is the one in the paper '
        '(ViT-B, BERT-base) with random weights, which do not affect speed.',
    ),
    'pdsl': (
        'PDSL',
        'Learn boxes and masks from tags. Proposals and cues are computed on the CPU; the network '
        '(ResNet18-WS) scores the proposals. A training step uses an image of 800 x 608 pixels '
        'and excludes the cues, which are measured separately. Each foreground proposal has a '
        'mask, and these take most of the time of a step. Processing RoIs in chunks takes more '
        'time and less memory.',
    ),
    'rvse': (
        'RVSE',
        'Match images and captions. Each similarity scores 500 captions: ours as in the tools, '
        'with the products that are fastest on the machine, and the published loop as its users '
        'run it, in plain PyTorch. The encoders and their training are those of RVSE++ (BERT-base, '
        '36 regions per image). Galleries hold vectors of 1,024 floats.',
    ),
}
HEAD = """\
# Benchmarks

<!-- Written by benchmarks/bench.py from benchmarks/results/{name}.csv. Do not edit. -->

`make bench` repeats these measurements on your machine. It appends each measurement to
`benchmarks/results/<machine>.csv`, so that you can interrupt and resume it, and then rewrites this
page. `make bench BENCH="--only plvl"` runs one part, and `make bench BENCH=--quick` checks that
everything runs, with tiny sizes. Do not use the machine for anything else meanwhile.

All figures are `ours`: {name}, {versions}, {threads} threads unless
stated otherwise. Weights are random, and inputs are random or scikit-learn's two photographs, so no
figure says anything about the quality of a model.

In the tables, *ours* and *baseline* are medians over *rounds*, each of which runs both in turn, and
*speedup* is their ratio. *Memory* is the peak increase during the run, so it excludes the model and
its inputs. *Bound* compares the measured time with the time that the machine needs at least: the
larger of the products' arithmetic at the rate of the largest product (*compute*), and the bytes
that PyTorch's operators read and write at the rate of a copy (*memory*). It can exceed 100 % if
caches serve some of these bytes, or if convolutions run faster than the large product.
"""
NO_GPU = """\
## GPU

Nothing was measured on a GPU. On a machine with one, `make bench` also runs on it, in float32 and
bf16, with and without `torch.compile`, compares mmcv's CUDA operators with torchvision's, and
reports how far the results are from those on the CPU.
"""


class Roof:
    """Hold the machine's peak rates, taken from the rows that measured them.

    Args:
        rows: All rows.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.gflops: dict[tuple[str, str, str], float] = {}
        self.gbytes: dict[tuple[str, str], float] = {}
        for row in rows:
            where = (row['device'], row['threads'])
            if row['project'] == 'machine' and row['gflop']:
                # the baseline is the other library's float32 product
                float32 = row['baseline'] if row['dtype'] == 'float32' else None
                seconds = min(row['ours'], float32 or row['ours'])
                self.gflops[(row['dtype'], *where)] = row['gflop'] / seconds
            elif row['project'] == 'machine':
                self.gbytes[where] = row['gbyte'] / row['ours']

    def bound(self, row: Row) -> str:
        """Return what bounds the row and its share of the time; empty if no work was counted."""
        where = (row['device'], row['threads'])
        gflops = self.gflops.get((row['dtype'], *where))
        gbytes = self.gbytes.get(where)
        if row['project'] == 'machine' or row['gbyte'] is None or not gflops or not gbytes:
            return ''
        seconds = {'compute': (row['gflop'] or 0) / gflops, 'memory': row['gbyte'] / gbytes}
        name = max(seconds, key=seconds.__getitem__)
        return f'{name}, {100 * seconds[name] / row["ours"]:.0f} %'


def write_page(table: Table, folder: Path) -> Path:
    """Write ``benchmarks.md`` to a folder and return its path.

    Args:
        table: The figures.
        folder: The ``docs`` folder of the repository.
    """
    rows = table.numbers()
    folder.mkdir(parents=True, exist_ok=True)
    roof = Roof(rows)
    threads = max((int(row['threads']) for row in rows), default=1)
    latest = rows[-1]['versions'] if rows else 'nothing measured'
    parts = [HEAD.format(name=table.path.stem, versions=latest, threads=threads)]
    for device in ('cpu', 'cuda'):
        for project, (title, text) in PROJECTS.items():
            own = [r for r in rows if r['project'] == project and r['device'] == device]
            if not own:
                continue
            lines = [f'## {title}' + ' on the GPU' * (device == 'cuda'), text]
            parts.append('\n\n'.join([*lines, *_tables(own, roof)]) + '\n')
    if all(row['device'] == 'cpu' for row in rows):
        parts.append(NO_GPU)
    page = folder / 'benchmarks.md'
    page.write_text('\n'.join(parts), encoding='utf-8')
    return page


def _tables(rows: Sequence[Row], roof: Roof) -> list[str]:
    """Return one table per quantity, followed by one of its stages."""
    tables = []
    for what in dict.fromkeys(row['what'].partition(': ')[0] for row in rows):
        own = [row for row in rows if row['what'].partition(': ')[0] == what]
        whole = [row for row in own if row['what'] == what]
        stages = [row for row in own if row['what'] != what]
        against = dict.fromkeys(row['against'] for row in own if row['against'])
        tables.append(f'### {what[0].upper()}{what[1:]}')
        tables.append(f'Baseline: {"; ".join(against)}.' if against else 'No baseline.')
        tables += [_table(part, roof) for part in (whole, stages) if part]
    return tables


def _table(rows: Sequence[Row], roof: Roof) -> str:
    columns: dict[str, Callable[[Row], str]] = {
        'stage': lambda row: row['what'].partition(': ')[2],
        rows[0]['size_name']: lambda row: f'{row["size"]:,.0f}',
        'dtype': lambda row: row['dtype'],
        'threads': lambda row: row['threads'],
        'ours': lambda row: _value(row['ours'], row['unit']),
        'baseline': lambda row: _value(row['baseline'], row['unit']),
        'speedup': lambda row: '' if row['ratio'] is None else f'{row["ratio"]:.2f}',
        'rate': _rate,
        'memory': lambda row: _memory(row['peak_mib']),
        "baseline's memory": lambda row: _memory(row['baseline_peak_mib']),
        'bound': roof.bound,
        'rounds': lambda row: row['repeats'],
    }
    cells = {name: [column(row) for row in rows] for name, column in columns.items()}
    cells = {
        name: values
        for name, values in cells.items()
        if any(values) and (name not in ('dtype', 'threads') or len(set(values)) > 1)
    }
    lines = [f'| {" | ".join(cells)} |', '|' + '---|' * len(cells)]
    return '\n'.join(lines + [f'| {" | ".join(line)} |' for line in zip(*cells.values())])


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ''
    if unit != 's':
        return f'{value:.3g} {unit}'
    return f'{value:.3g} s' if value >= 1 else f'{1e3 * value:.3g} ms'


def _memory(mebibytes: float | None) -> str:
    return '' if mebibytes is None else f'{mebibytes:,.0f} MiB'


def _rate(row: Row) -> str:
    """Return the rate in the counted unit."""
    if row['project'] == 'machine':
        rates = [(row[name] or 0) / row['ours'] for name in ('gflop', 'gbyte')]
        return f'{rates[0]:,.0f} GFLOP/s' if row['gflop'] else f'{rates[1]:.1f} GB/s'
    if row['unit'] == 'us/pair':
        return f'{1e6 / row["ours"]:,.0f} pairs/s'
    if row['unit'] != 's' or ': ' in row['what'] or row['size_name'] == 'processes':
        return ''
    counted = row['size_name'] in ('images', 'sentences', 'pairs', 'masks')
    return f'{(row["size"] if counted else 1) / row["ours"]:.3g}/s'
