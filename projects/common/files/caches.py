"""The folder of caches that cannot be written where their data is."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

__all__ = ['is_read_only', 'spare_place']


def spare_place(path: str | os.PathLike, name: str) -> Path:
    """Return a place for the cache of a file or folder that is not beside it.

    It is in the folder that ``MMTRIAD_CACHE`` names, by default ``~/.cache/mmtriad``.

    Args:
        path: The file or folder; different paths have different places.
        name: Name of the cache.
    """
    digest = hashlib.sha256(os.path.realpath(path).encode(errors='surrogateescape')).hexdigest()
    folder = os.environ.get('MMTRIAD_CACHE') or os.path.join('~', '.cache', 'mmtriad')
    return Path(folder).expanduser() / f'{digest[:16]}-{name}'


def is_read_only(error: OSError) -> bool:
    """Return whether an error says that a place cannot be written, now or later."""
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
