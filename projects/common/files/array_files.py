"""Read untrusted NumPy and MATLAB arrays, and report every problem in one line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from typing import Any, Literal

import numpy as np

from ..errors import InputError

__all__ = ['read_mat', 'read_npy']


def read_npy(path: str | os.PathLike, mmap_mode: Literal['r'] | None = None) -> np.ndarray:
    """Load the array of a ``.npy`` file without unpickling anything.

    Args:
        path: The file.
        mmap_mode: Pass ``'r'`` to memory-map the file instead of reading it.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, or holds anything but numbers.
    """
    try:
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy evaluates the header with Python's parser
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(f'{path}: no .npy of numbers ({reason})') from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biuf':
        raise InputError(f'{path}: no .npy of numbers')
    return array


# scipy trusts the offsets in a .mat file, so a damaged file makes it access memory out of bounds.
# It therefore runs in a separate process, and a crash of that process is reported as an error.
_MAT_READER = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import os, pickle
from scipy.io import loadmat
for line in sys.stdin:
    try:
        answer = True, loadmat(os.fsdecode(bytes.fromhex(line)))
    except NotImplementedError:
        answer = False, None
    except Exception as error:
        answer = False, ' '.join(str(error).split()) or type(error).__name__
    data = pickle.dumps(answer, 5)
    sys.stdout.buffer.write(len(data).to_bytes(8, 'little') + data)
    sys.stdout.flush()
"""


class _MatReader:
    """Run scipy's reader in a subprocess that starts at the first call and ends with this one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0

    def __call__(self, path: str) -> tuple[bool, Any]:
        """Return True and the arrays, or False and the problem (None for version 7.3)."""
        with self.lock:
            if self.process is None or self.owner != os.getpid():  # a fork needs its own pipes
                command = [sys.executable, '-c', _MAT_READER]
                pipe = subprocess.PIPE
                self.process = subprocess.Popen(
                    command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
                )
                self.owner = os.getpid()
            assert self.process.stdin and self.process.stdout
            try:
                self.process.stdin.write(os.fsencode(path).hex().encode() + b'\n')
                self.process.stdin.flush()
                length = int.from_bytes(self.process.stdout.read(8), 'little')
                data = self.process.stdout.read(length)
                if length and len(data) == length:
                    return pickle.loads(data)
            except BrokenPipeError:
                pass
            self.process.kill()
            self.process.communicate()
            self.process = None
            return False, 'its reader crashed'


_mat_reader = _MatReader()


def read_mat(path: str | os.PathLike) -> dict[str, Any]:
    """Load the arrays of a ``.mat`` file by name.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, is not a ``.mat`` file, or has version 7.3.
    """
    path = os.fspath(path)
    with open(path, 'rb'):
        pass
    read, found = _mat_reader(os.path.abspath(path))
    if read:
        return found
    if found is None:
        raise InputError(f'{path}: a MATLAB 7.3 file, expected one of version 7 or older')
    raise InputError(f'{path}: not a readable .mat file ({found})')
