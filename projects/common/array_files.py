"""Arrays from outside, NumPy's and MATLAB's: whatever is wrong with them becomes one line."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np

__all__ = ['read_mat', 'read_npy']


def read_npy(path: str | os.PathLike, mmap_mode: Literal['r'] | None = None) -> np.ndarray:
    """The array of a ``.npy`` file; nothing in it is unpickled.

    Args:
        path: The file.
        mmap_mode: ``'r'`` maps it into memory instead of reading it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, or holds anything but numbers.
    """
    try:
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy evaluates the header with Python's parser
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'{path}: no .npy of numbers ({reason})') from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biuf':
        raise ValueError(f'{path}: no .npy of numbers')
    return array


def read_mat(path: str | os.PathLike) -> dict[str, Any]:
    """Arrays of a ``.mat`` file by their names.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, no such file, or of version 7.3.
    """
    from scipy.io import loadmat

    try:
        return loadmat(path)
    except FileNotFoundError:
        raise
    except NotImplementedError:
        raise ValueError(f'{path}: a MATLAB 7.3 file, expected one of version 7 or older') from None
    except Exception as error:  # scipy raises almost any exception on damaged files
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'{path}: not a readable .mat file ({reason})') from None
