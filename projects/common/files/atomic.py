"""Write files that several processes share and that must survive a kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

__all__ = [
    'check_output_file',
    'check_writable',
    'folder_locked',
    'is_zip',
    'locked',
    'open_atomically',
    'write_atomically',
]


@contextlib.contextmanager
def open_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block ends without an error.

    After a kill or power failure, the path holds either the old file or the new one, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with open(partial, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:  # including a full disk or Ctrl-C
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # errors about a full disk do not name the file
        raise


def write_atomically(path: str | Path, data: bytes | memoryview) -> None:
    """Write `data` atomically: a kill leaves either the old file or the new one, never a part."""
    with open_atomically(path) as file:
        file.write(data)


def check_writable(folder: str | Path) -> None:
    """Raise an error now if nothing can be written to a folder, or to where it will be created.

    Tools that run for hours call this before they start.

    Raises:
        InputError: The folder, or the deepest existing one above it, cannot be written to.
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=str(existing)):
            pass
    except OSError as error:
        raise InputError(f'{folder}: cannot be written to ({error.strerror})') from None


def check_output_file(path: str | Path) -> None:
    """Raise an error now if a file cannot be written; see :func:`check_writable`.

    Raises:
        InputError: The path is a folder, or its folder cannot be written to.
    """
    if Path(path).is_dir():
        raise InputError(f'{path}: is a folder, expected a file to write')
    check_writable(Path(path).parent)


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is created, against all other processes."""
    with open(path, 'wb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed or the process dies
        yield


@contextlib.contextmanager
def folder_locked(folder: str | Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, without a lock file.

    Args:
        folder: An existing folder.
        shared: Take a shared lock, for reading. Other readers may hold it at the same time.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_zip(path: str | os.PathLike) -> bool:
    """Return whether the file is a complete zip archive: its directory is at its end."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # a damaged or multi-volume archive
        return False
