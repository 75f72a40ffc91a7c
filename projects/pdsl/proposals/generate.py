"""Parallel Selective Search over a folder of images that resumes after an interruption."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from projects.common.errors import InputError
from projects.common.files.atomic import locked, write_atomically
from projects.common.files.image_reader import read_image

from .pictures import map_unordered, of_this_rank
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
    on_picture: Callable[[], object] | None = None,
) -> ProposalStore | None:
    """Generate a :class:`ProposalStore` for images.

    The proposals of each image are saved below ``out`` immediately and packed once all are there,
    so an interrupted call resumes where it stopped. Under torchrun, each process handles its share,
    and the last one to finish packs the store. A complete store of the same images and arguments is
    left unchanged.

    Args:
        pictures: Image paths by name.
        out: Folder of the store.
        quality: See :func:`~projects.pdsl.proposals.selective_search`.
        max_proposals: See :func:`~projects.pdsl.proposals.selective_search`.
        min_side: See :func:`~projects.pdsl.proposals.selective_search`.
        max_side: See :func:`~projects.pdsl.proposals.selective_search`.
        workers: Number of worker processes.
        on_picture: Called after each image of this process, including images of an earlier call.

    Returns:
        The store, or None while other processes are still running.

    Raises:
        ValueError: ``out`` holds proposals made with other arguments or for other images, or an
            image cannot be read.
    """
    out = Path(out)
    options = dict(
        quality=quality, max_proposals=max_proposals, min_side=min_side, max_side=max_side
    )
    names = hashlib.blake2b('\n'.join(pictures).encode(), digest_size=8).hexdigest()
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
            return ProposalStore(out)
    elif out.is_dir() and any(not _is_ours(path.name) for path in out.iterdir()):
        raise InputError(f'{out}: holds something else; give a new folder')
    parts = out / 'parts'
    if 'RANK' not in os.environ or os.environ['RANK'] == '0':
        write_atomically(note, json.dumps(settings).encode())

    tasks = of_this_rank([(name, path, _part(parts, name)) for name, path in pictures.items()])
    missing = [task for task in tasks if not task[2].is_file()]
    for _ in range(len(tasks) - len(missing)):
        if on_picture:
            on_picture()
    for _ in map_unordered(partial(_search, options=options), missing, workers):
        if on_picture:
            on_picture()
    if not all(_part(parts, name).is_file() for name in pictures):
        return None
    with locked(out / '.lock'):  # another process may also have seen the last part
        if (out / 'index.json').is_file():
            return ProposalStore(out)
        store = write_store(out, ((name, _load(_part(parts, name)), None) for name in pictures))
        shutil.rmtree(parts, ignore_errors=True)
    return store


def _is_ours(name: str) -> bool:
    """Tell whether another process of this call may have written a file, including parts."""
    return name in ('parts', 'settings.json') or name.startswith('.')


def _part(folder: Path, name: str) -> Path:
    key = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
    return folder / key[:2] / f'{key}.npy'


def _search(task: tuple[str, str, Path], options: dict) -> None:
    _, path, part = task
    buffer = io.BytesIO()
    np.save(buffer, selective_search(read_image(path), **options), allow_pickle=False)
    write_atomically(part, buffer.getbuffer())


def _load(part: Path) -> np.ndarray:
    return np.load(part, allow_pickle=False)
