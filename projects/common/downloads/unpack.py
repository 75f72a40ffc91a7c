"""Unpack archives without trusting them: nothing but files and folders, below one folder."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from ..errors import InputError
from ..files.annotation_files import printable, shown
from ..hooks.progress import progress_bar

__all__ = ['SPARE', 'check_space', 'is_archive', 'readable_size', 'unpack']

SPARE = 100 * 10**6
"""Bytes of the disk that are left free."""
_TYPES = {
    stat.S_IFLNK: 'a symbolic link', stat.S_IFCHR: 'a device', stat.S_IFBLK: 'a device',
    stat.S_IFIFO: 'a pipe', stat.S_IFSOCK: 'a socket',
}  # fmt: skip


def is_archive(name: str) -> bool:
    """Return whether a file with this name is an archive that :func:`unpack` reads."""
    return name.endswith(('.zip', '.tar', '.tgz', '.tar.gz', '.tar.bz2', '.tar.xz'))


def readable_size(size: float) -> str:
    """Return a number of bytes for people, such as '13.5 GB'."""
    for unit, factor in (('GB', 10**9), ('MB', 10**6), ('kB', 10**3)):
        if size >= factor:
            return f'{size / factor:.1f} {unit}'
    return f'{size:.0f} bytes'


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise an error if a disk has too little room.

    Args:
        folder: An existing folder on the disk.
        needed: Number of bytes.
        what: What needs them, for the message.

    Raises:
        InputError: There is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise InputError(
            f'{folder}: {what}: found {readable_size(free)} free, expected at least '
            f'{readable_size(needed + SPARE)}'
        )


def unpack(archive: Path, folder: Path, wanted: Sequence[str] = ('',)) -> None:
    """Unpack members of a zip or tar archive into a folder, which is created and must not exist.

    Only files and folders are allowed, and all names must lead below the folder. If the archive
    holds a name such as ``../name`` or ``/name``, or what is wanted has a link or a device in it,
    nothing is kept.

    Args:
        archive: The archive.
        folder: The folder.
        wanted: The files and folders of the archive to unpack; ``''`` is everything.

    Raises:
        InputError: The archive is damaged, has a member that is not allowed, or does not fit on the
            disk.
    """
    folder.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, wanted)
        else:
            _unpack_tar(archive, folder, wanted)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if _is_damage(error):
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise InputError(
                f'{archive}: cannot be unpacked ({reason}); delete it to download it again'
            ) from None
        raise


def _is_damage(error: BaseException) -> bool:
    # The last ones: an encrypted member, and a method of compression that Python does not know.
    kinds = (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError,
        NotImplementedError,
    )  # fmt: skip
    # gzip raises OSError without a number for damaged data; the system's errors have one.
    return isinstance(error, kinds) or (isinstance(error, OSError) and error.errno is None)


def _unpack_zip(path: Path, folder: Path, wanted: Sequence[str]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = []
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if _is_wanted(path, member.filename, _TYPES.get(kind), wanted):
                members.append(member)
        check_space(folder, sum(member.file_size for member in members), f'unpacking {path.name}')
        with progress_bar(len(members), f'unpacking {path.name}', 'file') as bar:
            for member in members:
                archive.extract(member, folder)
                bar.update()


def _unpack_tar(path: Path, folder: Path, wanted: Sequence[str]) -> None:
    if not hasattr(tarfile, 'data_filter'):
        raise InputError(
            "this Python's tarfile has no filters, which make unpacking safe; expected 3.10.12, "
            '3.11.4, 3.12 or later'
        )
    size = path.stat().st_size
    position = 0
    with (
        open(path, 'rb') as file,
        tarfile.open(fileobj=file) as archive,
        progress_bar(size // 10**6, f'unpacking {path.name}', 'MB') as bar,
    ):
        for member in _tar_members(path, archive, wanted):
            check_space(folder, member.size, f'unpacking {path.name}')
            # The filter drops owners and special modes, and checks the path once more.
            archive.extract(member, folder, filter='data')
            bar.update(file.tell() // 10**6 - position)
            position = file.tell() // 10**6


def _tar_members(
    path: Path, archive: tarfile.TarFile, wanted: Sequence[str]
) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        kind = None
        if member.issym():
            kind = 'a symbolic link'
        elif member.islnk():
            kind = 'a hard link'
        elif not (member.isreg() or member.isdir()):
            kind = 'a device or another special file'
        if _is_wanted(path, member.name, kind, wanted):
            yield member


def _is_wanted(path: Path, name: str, kind: str | None, wanted: Sequence[str]) -> bool:
    """Return whether to unpack a member.

    Args:
        path: The archive.
        name: The member's name.
        kind: What it is, if it is not a file or a folder.
        wanted: What to unpack.

    Raises:
        InputError: The name leads elsewhere, or the member is wanted but no file or folder.
    """
    pure = PurePosixPath(name)
    is_outside = pure.is_absolute() or '..' in pure.parts
    is_wanted = any(pure.is_relative_to(each) for each in wanted)
    if is_outside or (is_wanted and kind is not None):
        raise InputError(
            f'{path}: member {shown(printable(name), 100)}: found '
            f'{"a path outside of the folder" if is_outside else kind}, expected files and '
            'folders; nothing was unpacked'
        )
    return is_wanted
