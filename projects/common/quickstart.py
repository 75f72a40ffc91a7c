"""What the projects' quick starts share: the summary file, versions and the printed table."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ['print_results', 'versions', 'write_summary']

_PACKAGES = (
    'torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmpretrain',
    'transformers', 'numpy',
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {'python': platform.python_version()}
    for name in _PACKAGES:
        for candidate in (name, name.removeprefix('onedl-').replace('mmdetection', 'mmdet')):
            try:
                found[candidate] = importlib.metadata.version(candidate)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def write_summary(path: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the summary as JSON, with two digits behind the point, and returns it so."""
    rounded = json.loads(json.dumps(summary), parse_float=lambda text: round(float(text), 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded, indent=2) + '\n')
    return rounded


def print_results(title: str, rows: Sequence[tuple[str, float]], footer: str) -> None:
    """Prints percentages by name between two rules."""
    width = max(len(name) for name, _ in rows)
    print(f'\n{title}')
    print('-' * (width + 10))
    for name, value in rows:
        print(f'{name:<{width}}  {value:6.2f} %')
    print('-' * (width + 10))
    print(footer)
