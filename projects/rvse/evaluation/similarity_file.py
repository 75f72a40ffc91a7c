"""The similarity matrix of a test, which ``test_cfg.similarity_file`` names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from projects.common.errors import InputError

__all__ = ['read_similarities']


def read_similarities(path: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Load a memory-mapped similarity matrix (I, C) and the ground truth of its split.

    Returns:
        The matrix, and a dict with ``source``, the file of the split, ``image_of_caption`` (C,) and
        ``captions``, their SHA-256, which older files lack.

    Raises:
        ValueError: A file does not exist, is damaged, or does not fit the other one.
    """
    truth = Path(path).with_suffix('.json')
    for file in (Path(path), truth):
        if not file.is_file():
            raise InputError(
                f'{file}: no such file; test_cfg.similarity_file of tools/test.py writes it'
            )
    try:
        matrix = np.load(path, mmap_mode='r', allow_pickle=False)
        content = json.loads(truth.read_text())
        shape = (max(content['image_of_caption']) + 1, len(content['image_of_caption']))
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f'{path}: no similarities of a test ({error})') from None
    if matrix.shape != shape:
        raise InputError(f'{path}: shape {matrix.shape}, but {truth.name} is of {shape}')
    return matrix, content
