"""Skip image files that cannot be read, and report how many and why."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from mmengine.logging import print_log

from .atomic import check_writable, write_atomically
from .image_reader import ImageError, MissingImageError

__all__ = ['SkippedImages', 'printable']


class SkippedImages:
    """Collect image files that cannot be read, and report them at the end of a ``with`` block.

    The report is a warning that counts the images by reason, and a file if one is given.

    Args:
        active: Whether to skip images; otherwise errors are not caught and nothing is reported.
        file: File to list the images in, each with a tab and the reason.

    Raises:
        ValueError: The file cannot be written.
    """

    def __init__(self, active: bool = True, file: str | os.PathLike | None = None) -> None:
        self.active = active
        self.file = Path(file) if active and file is not None else None
        self.found: dict[str, tuple[str, str]] = {}
        """Reason and message for each path."""
        if self.file is not None:
            check_writable(self.file.parent)

    def __enter__(self) -> SkippedImages:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Report the images, even after an error."""
        if self.active:
            self._report()

    @contextlib.contextmanager
    def skipping(self, images: Collection[object]) -> Iterator[None]:
        """Suppress the error of an image that cannot be read, if it is one of these.

        Args:
            images: Images, of which those given as paths can be skipped.
        """
        try:
            yield
        except (ImageError, MissingImageError) as error:
            paths = [os.fspath(i) for i in images if isinstance(i, (str, os.PathLike))]
            if not self.active or error.image is None or error.image not in paths:
                raise
            self.found[error.image] = (error.reason, ' '.join(str(error).split()))

    def _report(self) -> None:
        if self.file is not None and (self.found or self.file.exists()):
            lines = ''.join(f'{path}\t{message}\n' for path, (_, message) in self.found.items())
            write_atomically(self.file, lines.encode(errors='surrogateescape'))
        if not self.found:
            return
        groups: dict[str, list[str]] = defaultdict(list)
        for path, (reason, _) in self.found.items():
            groups[reason].append(path)
        counts = '; '.join(
            f'{len(paths):,} of them: {reason} (first: {printable(paths[0])})'
            for reason, paths in sorted(groups.items(), key=lambda group: -len(group[1]))
        )
        where = f'; all are listed in {self.file}' if self.file is not None else ''
        message = f'left out {len(self.found):,} images: {counts}{where}'
        print_log(message, 'current', logging.WARNING)


def printable(path: str) -> str:
    """Return a path with escapes for what is not UTF-8."""
    return os.fsencode(path).decode(errors='backslashreplace')
