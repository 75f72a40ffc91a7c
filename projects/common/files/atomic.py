"""Files that several processes share and that a kill may not spoil."""

from __future__ import annotations

import contextlib
import fcntl
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ['folder_locked', 'is_zip', 'locked', 'open_atomically', 'write_atomically']


@contextlib.contextmanager
def open_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` when the block ends without an error.

    A kill or power cut leaves the old file or the new one, never a part.
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
    except BaseException as error:  # a full disk, Ctrl-C
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say for which file
        raise


def write_atomically(path: str | Path, data: bytes | memoryview) -> None:
    """Write `data` so that a kill or power cut leaves the old file or the new one, never a part."""
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Holds the lock of the file ``path``, which is made, against all other processes."""
    with open(path, 'wb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, or the process killed
        yield


@contextlib.contextmanager
def folder_locked(folder: str | Path, shared: bool = False) -> Iterator[None]:
    """Holds the lock of a folder, which needs no file of its own.

    Args:
        folder: The folder, which exists.
        shared: For reading: others may hold it in the same way.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_zip(path: str | os.PathLike) -> bool:
    """Whether the file is a zip archive that is complete: its directory is at its end."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # damaged, or one of several volumes
        return False
