"""Parallel Selective Search over a folder of images that resumes after an interruption."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.atomic import locked, write_atomically
from projects.common.files.image_reader import read_image

from .identity import ImageIdentity, file_checksum
from .images import map_unordered, of_this_rank
from .selective_search import selective_search
from .store import ProposalStore, write_store

__all__ = ['generate_proposals']


def generate_proposals(
    pictures: Mapping[str, str],
    out: str | os.PathLike,
    *,
    quality: bool = False,
    max_proposals: int | None = 2000,
    min_side: float = 0,
    max_side: int | None = None,
    workers: int = 1,
    skip_damaged: bool = False,
    on_image: Callable[[], object] | None = None,
) -> ProposalStore | None:
    """Generate a :class:`ProposalStore` for images.

    The proposals of each image are saved below ``out`` immediately and packed once all are there,
    so an interrupted call resumes where it stopped. Under torchrun, each process handles its share,
    and the last one to finish packs the store. A complete store of the same images and arguments is
    left unchanged. Images that cannot be read do not stop the others.

    Args:
        pictures: Image paths by name, which are paths relative to a folder without suffix.
        out: Folder of the store.
        quality: See :func:`~projects.pdsl.proposals.selective_search`.
        max_proposals: See :func:`~projects.pdsl.proposals.selective_search`.
        min_side: See :func:`~projects.pdsl.proposals.selective_search`.
        max_side: See :func:`~projects.pdsl.proposals.selective_search`.
        workers: Number of worker processes.
        skip_damaged: Leave images that cannot be read out of the store, with a warning, instead of
            raising an error after all others are done.
        on_image: Called after each image of this process, including images of an earlier call.

    Returns:
        The store, or None while other processes are still running.

    Raises:
        ValueError: An argument is out of range, ``out`` holds proposals made with other arguments
            or for other images, or an image cannot be read.
    """
    _check_arguments(max_proposals, min_side, max_side, workers)
    out = Path(out)
    options = dict(
        quality=quality, max_proposals=max_proposals, min_side=min_side, max_side=max_side
    )
    names = hashlib.blake2b(os.fsencode('\n'.join(pictures)), digest_size=8).hexdigest()
    settings = dict(method='selective_search-1', **options, pictures=names)
    note = out / 'settings.json'
    if note.is_file():
        found = json.loads(note.read_text())
        if found != settings:
            changed = [key for key in settings if found.get(key) != settings[key]]
            raise InputError(
                f'{note}: made with another {", ".join(changed)} '
                f'({", ".join(str(found.get(key)) for key in changed)}); give a new folder'
            )
        if (out / 'index.json').is_file():
            return _unchanged(ProposalStore(out), pictures, skip_damaged)
    elif out.is_dir() and any(not _is_ours(path.name) for path in out.iterdir()):
        raise InputError(f'{out}: holds something else; give a new folder')
    parts = out / 'parts'
    if 'RANK' not in os.environ or os.environ['RANK'] == '0':
        write_atomically(note, json.dumps(settings).encode())

    mine = of_this_rank(list(pictures))
    missing = [name for name in mine if not _part(parts, name).is_file()]
    for _ in range(len(mine) - len(missing)):
        if on_image:
            on_image()
    tasks = [(pictures[name], _part(parts, name)) for name in missing]
    for _ in map_unordered(partial(_search, options=options), tasks, workers):
        if on_image:
            on_image()
    done = [name for name in pictures if _part(parts, name).is_file()]
    notes = [_damaged(_part(parts, name)) for name in set(pictures).difference(done)]
    damaged = sorted(note.read_text() for note in notes if note.is_file())
    if damaged and not skip_damaged:
        raise InputError(
            f'{damaged[0]} ({len(damaged)} images cannot be read, the others are done or under '
            'way; mend them and run the same command again, or leave them out with skip_damaged)'
        )
    if len(damaged) < len(notes):  # other processes are at work
        return None
    for reason in damaged:
        print_log(f'left out: {reason}', 'current', logging.WARNING)
    with locked(out / '.lock'):  # another process may also have seen the last part
        if (out / 'index.json').is_file():
            return ProposalStore(out)
        images: dict[str, ImageIdentity] = {}

        def entries() -> Iterator[tuple[str, np.ndarray, None]]:
            for name in done:
                boxes, images[name] = _load(_part(parts, name))
                yield name, boxes, None

        store = write_store(out, entries(), keys='paths', identify=images.get)
        shutil.rmtree(parts, ignore_errors=True)
    return store


def _check_arguments(
    max_proposals: int | None, min_side: float, max_side: int | None, workers: int
) -> None:
    for name, value, least in (
        ('max_proposals', max_proposals, 1),
        ('min_side', min_side, 0),
        ('max_side', max_side, 1),
        ('workers', workers, 0),
    ):
        if value is not None and value < least:
            raise InputError(f'{name}: found {value}, expected at least {least}')


def _unchanged(
    store: ProposalStore, pictures: Mapping[str, str], skip_damaged: bool
) -> ProposalStore:
    """Return a complete store if it still belongs to the images."""
    missing = list(set(pictures).difference(store.names))
    if missing and not skip_damaged:
        raise InputError(
            f'{store.folder}: {len(missing)} images that could not be read were left out, such '
            f'as {missing[0]!r}; give a new folder, or leave them out again with skip_damaged'
        )
    for name, known in store.images.items():
        if known.checksum is not None and known.checksum != file_checksum(pictures[name]):
            raise InputError(
                f'{store.folder}: {pictures[name]} has changed since its proposals were made; give '
                'a new folder'
            )
    return store


def _is_ours(name: str) -> bool:
    """Tell whether another process of this call may have written a file, including parts."""
    return name in ('parts', 'settings.json') or name.startswith('.')


def _part(folder: Path, name: str) -> Path:
    key = hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()
    return folder / key[:2] / f'{key}.npz'


def _damaged(part: Path) -> Path:
    """Return the file that says why the image of a part cannot be read."""
    return part.with_suffix('.damaged')


def _search(task: tuple[str, Path], options: dict) -> None:
    """Write the part of an image, or why it cannot be read."""
    path, part = task
    _damaged(part).unlink(missing_ok=True)
    try:
        image = read_image(path)
    except (InputError, OSError) as error:
        reason = ' '.join(str(error).split())
        write_atomically(_damaged(part), reason.encode(errors='backslashreplace'))
        return
    buffer = io.BytesIO()
    identity = [*image.shape[:2], file_checksum(path)]
    np.savez(buffer, boxes=selective_search(image, **options), image=identity)
    write_atomically(part, buffer.getbuffer())


def _load(part: Path) -> tuple[np.ndarray, ImageIdentity]:
    with np.load(part, allow_pickle=False) as file:
        return file['boxes'], ImageIdentity(*file['image'].tolist())
