"""Describe published data sets: their files, where these come from and where they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

__all__ = ['PublishedFile', 'PublishedSet']


@dataclass(frozen=True)
class PublishedFile:
    """Describe a file that a data set consists of.

    Attributes:
        urls: Its addresses, the makers' first.
        places: Pairs of a path inside the archive and the path below the data root that it gets.
            For a file that is no archive, the first path is ``''``.
        size: Number of bytes, or None if it is not known.
        digest: Checksum, such as ``'md5:...'``, or None if nobody publishes one.
        expansion: Unpacked size as a multiple of ``size``.
        images: Whether the file holds images.
    """

    urls: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    size: int | None = None
    digest: str | None = None
    expansion: float = 1.0
    images: bool = False

    @property
    def name(self) -> str:
        """Return the name of the file, which the first address ends with."""
        return PurePosixPath(unquote(urlsplit(self.urls[0]).path)).name

    def mirrored(self, mirror: str | None) -> tuple[str, ...]:
        """Return the addresses, or the one below a mirror that holds the files by their names."""
        return self.urls if mirror is None else (f'{mirror.rstrip("/")}/{self.name}',)


@dataclass(frozen=True)
class PublishedSet:
    """Describe a data set.

    Attributes:
        title: Its name in prose.
        page: The makers' page.
        terms: Licence or terms of use, as that page or its repository states them.
        files: The files that can be downloaded.
        links: Pairs of a path below the data root and the one that it is a symbolic link to.
        by_hand: What cannot be downloaded without a form, and where to ask for it.
        afterwards: Commands that prepare the data for the configs, run from the repository.
        verify: Commands that check the data.
        finish: A function of the data root for what is computed from several data sets. It returns
            a line that says what it did or what it lacks.
    """

    title: str
    page: str
    terms: str
    files: tuple[PublishedFile, ...]
    links: tuple[tuple[str, str], ...] = ()
    by_hand: str = ''
    afterwards: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    finish: Callable[[Path], str] | None = None
