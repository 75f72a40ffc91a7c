"""Text files that name one image a line, such as VOC's image sets."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ['read_image_names']

_LABELS = {'-1', '0', '1'}


def read_image_names(path: str | os.PathLike) -> list[str]:
    """Return the image name of each line that is not blank, without blanks around it.

    Columns of labels (-1, 0 or 1), which VOC's image sets of single classes have in every line, are
    left out. Any other word is part of the name, which may have blanks. Names that are not UTF-8
    are read as Python decodes file names.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    text = Path(path).read_bytes().decode('utf-8-sig', 'surrogateescape')
    lines = [line.strip() for line in text.split('\n')]
    lines = [line for line in lines if line]
    while lines and all(_has_label(line) for line in lines):
        lines = [line.rsplit(maxsplit=1)[0] for line in lines]
    return lines


def _has_label(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[-1] in _LABELS
