"""Put downloaded files where the configs look for them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..files.annotation_files import shown
from ..files.atomic import open_atomically, write_atomically
from .published import PublishedFile, PublishedSet
from .transfer import download, part_of, remote_size
from .unpack import check_space, is_archive, unpack

__all__ = ['Store', 'link']


class Store:
    """Download files below a data root and unpack them there.

    Archives, parts of them and records of what has been unpacked are in ``.downloads``. A record is
    written last, so that an interrupted run unpacks the archive again.

    Args:
        root: The data root.
        mirror: Address below which all files are found by their names, instead of their own.
        overwrite: Whether files that are there with other content are replaced.
        keep: Whether to keep archives after they have been unpacked.
    """

    def __init__(
        self, root: Path, mirror: str | None = None, overwrite: bool = False, keep: bool = True
    ) -> None:
        self.root = root
        self.folder = root / '.downloads'
        self.mirror = mirror
        self.overwrite = overwrite
        self.keep = keep

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from downloading to the same root, which wait meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f'{self.root}: waiting for another download to it', flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def is_there(self, file: PublishedFile) -> bool:
        """Return whether a file has been unpacked, and none of its places has been deleted."""
        return self._record(file).is_file() and all(
            (self.root / below).exists() for _, below in file.places
        )

    def size(self, file: PublishedFile) -> int | None:
        """Return the size of a file in bytes, asking its server if it is not known in advance."""
        if file.size is not None:
            return file.size
        return remote_size(file.mirrored(self.mirror))

    def check_room(self, sizes: Sequence[tuple[PublishedFile, int | None]]) -> None:
        """Raise an error now if the disk has too little room for files and what they unpack to.

        Args:
            sizes: Files that are not there yet, and their sizes; unknown ones count nothing.

        Raises:
            InputError: There is too little room.
        """
        needed = 0.0
        for file, size in sizes:
            path = self.folder / file.name
            if size is None:
                continue
            arrived = [p.stat().st_size for p in (path, part_of(path)) if p.exists()]
            needed += max(size - max(arrived, default=0), 0)
            needed += size * file.expansion if is_archive(file.name) else 0
        existing = self.root.absolute()
        while not existing.exists():
            existing = existing.parent
        check_space(existing, int(needed), 'downloading and unpacking')

    def install(self, file: PublishedFile) -> None:
        """Download a file unless it is there, unpack it and put its content in place.

        Raises:
            InputError: The file cannot be downloaded or unpacked, lacks what is expected in it, or
                other files are in its places.
        """
        path = self.folder / file.name
        if not path.exists():
            download(file.mirrored(self.mirror), path, file.size, file.digest)
        if is_archive(file.name):
            unpacked = self.folder / f'unpacking-{file.name}'
            if unpacked.exists():  # of a process that was killed
                shutil.rmtree(unpacked)
            unpack(path, unpacked, [inside for inside, _ in file.places])
            try:
                self._place(unpacked, file, path)
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
        else:
            self._place(path, file, path)
        record = dict(urls=file.urls, size=file.size, places=file.places)
        write_atomically(self._record(file), json.dumps(record).encode())
        if not self.keep:
            path.unlink(missing_ok=True)

    def _record(self, file: PublishedFile) -> Path:
        return self.folder / f'{file.name}.unpacked.json'

    def _place(self, source: Path, file: PublishedFile, path: Path) -> None:
        moves = []
        for inside, below in file.places:
            if not (source / inside).exists():
                found = sorted(entry.name for entry in source.iterdir())
                raise InputError(f'{path}: found {shown(found)}, expected {inside} in it')
            moves.append((source / inside, self.root / below))
        if not self.overwrite:
            for old, new in moves:
                _check_equal(old, new)
        for old, new in moves:
            if is_archive(file.name):
                _move(old, new)
            else:
                _copy(old, new)


def _check_equal(old: Path, new: Path) -> None:
    """Raise an error if a file would be replaced by one with other content."""
    if not new.exists():
        return
    if old.is_dir() != new.is_dir():
        raise InputError(
            f'{new}: found a {"folder" if new.is_dir() else "file"}, expected the other'
        )
    if old.is_dir():
        for entry in old.iterdir():
            _check_equal(entry, new / entry.name)
    elif not filecmp.cmp(old, new, shallow=False):
        raise InputError(
            f'{new}: found a file with other content than the published one; move it away, or '
            '--overwrite replaces it'
        )


def _move(old: Path, new: Path) -> None:
    """Move a file or a folder; a folder is merged into one that is there."""
    if old.is_dir() and new.is_dir():
        for entry in old.iterdir():
            _move(entry, new / entry.name)
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(old, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if old.is_dir():  # part of the tree is on another disk
            new.mkdir()
            _move(old, new)
        else:
            _copy(old, new)


def _copy(old: Path, new: Path) -> None:
    with open(old, 'rb') as source, open_atomically(new) as target:
        shutil.copyfileobj(source, target)


def link(root: Path, data_set: PublishedSet) -> None:
    """Make the symbolic links of a data set, where nothing else is.

    Args:
        root: The data root.
        data_set: The data set.
    """
    for below, target in data_set.links:
        path = root / below
        if not path.exists() and not path.is_symlink() and (root / target).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(os.path.relpath(root / target, path.parent))
