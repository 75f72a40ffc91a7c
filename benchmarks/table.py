"""Figures of a machine: a CSV file to which whole measurements are appended."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import torch

from projects.common.errors import InputError

COLUMNS = (
    'project', 'what', 'size_name', 'size', 'ours', 'baseline', 'unit', 'ratio', 'against',
    'peak_mib', 'baseline_peak_mib', 'gflop', 'gbyte', 'repeats', 'dtype', 'device', 'threads',
    'versions',
)  # fmt: skip
KEY = ('project', 'what', 'size', 'dtype', 'device', 'threads')
NUMBERS = ('size', 'ours', 'baseline', 'ratio', 'peak_mib', 'baseline_peak_mib', 'gflop', 'gbyte')


def machine_name(device: str = 'cpu') -> str:
    """Name the machine by processor model and number of cores, and by the GPU if it is one."""
    info = Path('/proc/cpuinfo')
    found = re.search(r'^model name\s*:\s*(.+)$', info.read_text() if info.is_file() else '', re.M)
    model = found[1] if found else platform.processor() or platform.machine()
    name = f'{model} {torch.get_num_threads()} cores'
    if device.startswith('cuda'):
        name += f' {torch.cuda.get_device_name(device)}'
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def versions() -> str:
    """Return the versions that the figures depend on."""
    found = {'torch': torch.__version__, 'opencv': cv2.__version__}
    for name in ('faiss-cpu', 'numpy', 'transformers'):
        found[name] = importlib.metadata.version(name)
    return ', '.join(f'{name} {version}' for name, version in found.items())


def text(value: object) -> str:
    """Format a cell; numbers have five significant digits."""
    if value is None:
        return ''
    return f'{value:.5g}' if isinstance(value, float) else str(value)


class Table:
    """Hold the rows of a CSV file by what they measure; the last row with a key counts.

    Args:
        path: The file; it need not exist.

    Raises:
        InputError: The file has other columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        if not path.is_file():
            return
        content = path.read_text(encoding='utf-8')
        whole = content[: content.rfind('\n') + 1]
        if whole != content:  # a run was stopped in the middle of a line
            path.write_text(whole, encoding='utf-8')
        reader = csv.DictReader(io.StringIO(whole))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(
                f'{path}: columns {", ".join(reader.fieldnames or ["none"])}; expected '
                f'{", ".join(COLUMNS)}; move the file away to measure anew'
            )
        for row in reader:
            self.rows[tuple(row[name] for name in KEY)] = row

    def has(self, row: Mapping[str, object]) -> bool:
        """Return whether a row with this key exists that was measured with the current versions."""
        found = self.rows.get(tuple(text(row[name]) for name in KEY))
        return found is not None and found['versions'] == row['versions']

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write the rows of a measurement at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator='\n')
        if not self.path.is_file():
            writer.writeheader()
        for row in rows:
            cells = {name: text(row.get(name)) for name in COLUMNS}
            writer.writerow(cells)
            self.rows[tuple(cells[name] for name in KEY)] = cells
        with self.path.open('a', encoding='utf-8') as file:
            file.write(buffer.getvalue())

    def numbers(self) -> list[dict[str, Any]]:
        """Return all rows with numbers as floats and empty cells as None."""
        return [
            {k: (float(v) if v else None) if k in NUMBERS else v for k, v in row.items()}
            for row in self.rows.values()
        ]
