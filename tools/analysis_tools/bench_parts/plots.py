"""Plots of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from .roofline import Roof
from .table import Row

COLOURS = {'float32': '#1f77b4', 'bfloat16': '#d95f02'}
BASELINE = '#777777'


def draw_project(rows: Sequence[Row], roof: Roof, path: Path) -> bool:
    """Plot every quantity that has several sizes, and the stages; return whether there are any."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if ': ' not in row['what'] or row['what'].startswith('gallery'):
            panels.setdefault(row['what'], []).append(row)
    panels = {what: own for what, own in panels.items() if len({row['size'] for row in own}) > 1}
    stages = _stages(rows)
    count = len(panels) + bool(stages)
    if not count:
        return False
    width = min(count, 3)
    height = -(-count // width)
    figure, axes = plt.subplots(height, width, figsize=(4.2 * width, 3.2 * height), squeeze=False)
    places = list(axes.flat)
    for axis, (what, own) in zip(places, panels.items()):
        _lines(axis, what, own)
    if stages:
        _bars(places[len(panels)], stages, roof)
    for axis in places[count:]:
        axis.axis('off')
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)
    return True


def _lines(axis, what: str, rows: Sequence[Row]) -> None:
    """Plot our figures by dtype, and the baseline, against the size."""
    for dtype, colour in COLOURS.items():
        own = sorted((row for row in rows if row['dtype'] == dtype), key=lambda row: row['size'])
        if own:
            label = 'ours' if dtype == 'float32' else f'ours, {dtype}'
            sizes = [row['size'] for row in own]
            axis.plot(sizes, [row['ours'] for row in own], 'o-', color=colour, label=label)
    first = sorted(
        (r for r in rows if r['baseline'] and r['dtype'] == 'float32'), key=lambda r: r['size']
    )
    if first:
        sizes = [row['size'] for row in first]
        values = [row['baseline'] for row in first]
        axis.plot(sizes, values, 's--', color=BASELINE, label=fill(first[0]['against'], 28))
    axis.set_xscale('log')
    axis.set_yscale('log')
    sizes = sorted({row['size'] for row in rows})
    axis.set_xticks(sizes, [f'{size:,.0f}' for size in sizes])
    axis.minorticks_off()
    ticks = _nice(axis.get_ylim())
    axis.set_yticks(ticks, [f'{tick:g}' for tick in ticks])
    axis.set_title(what, fontsize=10)
    axis.set_xlabel(rows[0]['size_name'])
    axis.set_ylabel('seconds' if rows[0]['unit'] == 's' else rows[0]['unit'])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def _nice(limits: tuple[float, float]) -> list[float]:
    """Return a few round numbers within limits."""
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        values = [digit * 10.0**power for power in range(-9, 7) for digit in digits]
        found = [value for value in values if limits[0] <= value <= limits[1]]
        if len(found) > 2:
            break
    return found


def _stages(rows: Sequence[Row]) -> list[Row]:
    """Return the stages of the slowest run, at its largest size in float32."""
    runs: dict[tuple, list[Row]] = {}
    for row in rows:
        run, _, stage = row['what'].partition(': ')
        seconds = row['unit'] == 's' and row['dtype'] == 'float32'
        if stage and seconds and not run.startswith(('gallery', 'training')):
            runs.setdefault((run, row['size']), []).append(row)
    return max(runs.values(), key=lambda own: sum(row['ours'] for row in own), default=[])


def _bars(axis, rows: Sequence[Row], roof: Roof) -> None:
    names = [row['what'].partition(': ')[2] for row in rows]
    axis.barh(names, [row['ours'] for row in rows], color=COLOURS['float32'], label='ours')
    limits = [(roof.limit(row) or ('', 0))[1] * row['ours'] for row in rows]
    axis.barh(names, limits, height=0.3, color='#a6d854', label="the machine's limit")
    axis.invert_yaxis()
    first = rows[0]
    run = first['what'].partition(': ')[0]
    axis.set_title(f'{run}, {first["size"]:,.0f} {first["size_name"]}', fontsize=10)
    axis.set_xlabel('seconds')
    axis.tick_params(axis='y', labelsize=7)
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3, axis='x')


def draw_roofline(rows: Sequence[Row], roof: Roof, path: Path) -> bool:
    """Plot GFLOP/s against FLOP per byte below the machine's roof; return whether there is any."""
    threads = max((row['threads'] for row in rows), key=int, default='1')
    points = [
        row for row in rows
        if row['gflop'] and row['gbyte'] and row['project'] != 'machine'
        and row['device'] == 'cpu' and row['threads'] == threads
    ]  # fmt: skip
    bandwidth = roof.gbytes.get(('cpu', threads))
    if not points or not bandwidth:
        return False
    figure, axis = plt.subplots(figsize=(7.5, 5))
    xs = [0.05 * 1.1**i for i in range(120)]
    for dtype, colour in COLOURS.items():
        peak = roof.gflops.get((dtype, 'cpu', threads))
        if peak:
            ys = [min(peak, bandwidth * x) for x in xs]
            axis.plot(xs, ys, color=colour, label=f'roof, {dtype}: {peak:,.0f} GFLOP/s')
    for project, marker in (('plvl', 'o'), ('pdsl', 's'), ('rvse', '^')):
        own = [row for row in points if row['project'] == project]
        if own:
            axis.scatter(
                [row['gflop'] / row['gbyte'] for row in own],
                [row['gflop'] / row['ours'] for row in own],
                marker=marker, s=26, alpha=0.75, label=project,
                color=[COLOURS[row['dtype']] for row in own], edgecolors='black', linewidths=0.5,
            )  # fmt: skip
    axis.set_xscale('log')
    axis.set_yscale('log')
    axis.set_xlabel("FLOP a byte that PyTorch's operators read and write")
    axis.set_ylabel('GFLOP/s')
    axis.set_title(f'{threads} threads; {bandwidth:.0f} GB/s', fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)
    return True
