"""Names of output files that are derived from input files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

__all__ = ['unique_names']

_LONGEST = 120  # characters


def unique_names(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Return a readable name for each path, without a suffix; no two are equal.

    A name joins the folders below the one that all paths have in common and the stem of the file. A
    path that occurs several times, such as an image with several sentences, is numbered.

    Args:
        paths: Paths of files, which need not exist.

    Examples:
        >>> unique_names(['data/train/01.png', 'data/val/01.png', 'data/val/01.png'])
        ['train_01', 'val_01_0', 'val_01_1']
    """
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath({os.path.dirname(path) for path in absolute}) if absolute else ''
    counts = Counter(absolute)
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    names = []
    for path in absolute:
        stem = os.path.splitext(os.path.relpath(path, common))[0]
        name = re.sub(r'[^\w.-]+', '_', stem)[-_LONGEST:].lstrip('.')
        if counts[path] > 1:
            name += f'_{seen[path]}'
            seen[path] += 1
        unique, number = name, 2
        while unique.lower() in taken:  # a.png and a.jpg, or a/b.png and a_b.png
            unique = f'{name}-{number}'
            number += 1
        taken.add(unique.lower())
        names.append(unique)
    return names
