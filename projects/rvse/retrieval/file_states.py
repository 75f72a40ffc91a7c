"""Tell whether a file has changed since its entry was made, without reading it if possible."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

__all__ = ['FileState']

_RACY = 2_000_000_000  # nanoseconds, the coarsest clock of a file system (FAT)


@dataclass(frozen=True)
class FileState:
    """Describe the version of a file that an entry was made from.

    Attributes:
        size: Bytes.
        changed: Time of the last change in nanoseconds; 0 if the file was so new that it could
            have changed once more within the resolution of the clock.
        checksum: Checksum of the content, or '' if it has not been read.
    """

    size: int
    changed: int
    checksum: str = ''

    @classmethod
    def of(cls, path: str) -> FileState | None:
        """Read the state of a file, without its checksum; None if there is no such file."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        new = status.st_mtime_ns > time.time_ns() - _RACY
        return cls(status.st_size, 0 if new else status.st_mtime_ns)

    @classmethod
    def parse(cls, text: str) -> FileState | None:
        """Read what ``str()`` has written; None for any other text."""
        parts = text.split(' ')
        if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            return None
        return cls(int(parts[0]), int(parts[1]), parts[2])

    def __str__(self) -> str:
        """Return the state as a text of a store."""
        return f'{self.size} {self.changed} {self.checksum}'

    def is_of(self, now: FileState | None) -> bool:
        """Return whether a file, whose state is ``now``, is certainly the same."""
        return now is not None and now.changed > 0 and (
            (self.size, self.changed) == (now.size, now.changed)
        )  # fmt: skip
