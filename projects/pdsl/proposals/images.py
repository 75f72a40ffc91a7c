"""Listing folders of images and splitting work over processes and machines."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any, TypeVar

from projects.common.errors import InputError
from projects.common.files.images import IMAGE_SUFFIXES, find_images
from projects.common.processes import worker_processes

from ..image_sets import read_image_names

__all__ = ['list_images', 'map_unordered', 'of_this_rank']

_T = TypeVar('_T')


def list_images(
    folder: str | os.PathLike, names_file: str | os.PathLike | None = None
) -> dict[str, str]:
    """Return the paths of the images in a folder and its subfolders, by name.

    The name is the path relative to the folder without its suffix, with '/' between folders. Links
    have their own names, and linked folders are searched.

    Args:
        folder: The folder.
        names_file: An image set: each line has the name of an image to keep, with or without
            suffix; see :func:`~projects.pdsl.image_sets.read_image_names`.

    Raises:
        FileNotFoundError: The folder, or an image of the image set, does not exist.
        ValueError: The folder has no images, or two images with the same name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder')
    found: dict[str, str] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix('').as_posix()
        if name in found:
            raise InputError(f'{path}: has the same name as {found[name]}')
        found[name] = str(path)
    if names_file is not None:
        by_file = {os.path.relpath(path, folder): name for name, path in found.items()}
        chosen = {}
        for name in read_image_names(names_file):
            key = name if name in found else by_file.get(name)
            if key is None:
                raise FileNotFoundError(f'{names_file}: image {name!r} is not in {folder}')
            chosen[key] = found[key]
        found = chosen
    if not found:
        raise InputError(f'{names_file or folder}: no images ({", ".join(IMAGE_SUFFIXES)})')
    return found


def of_this_rank(items: Sequence[_T]) -> list[_T]:
    """Return every WORLD_SIZE-th item, starting at RANK, under torchrun; otherwise all items."""
    rank, size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    return list(items[rank::size])


def map_unordered(function: Callable, items: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yield results in any order, computed by ``workers`` processes.

    Raises:
        InputError: A process was killed.
    """
    if workers <= 1 or len(items) < 2:
        yield from map(function, items)
        return
    rest = iter(items)
    with worker_processes(workers, 1, 'goes on where it was') as pool:
        running = {pool.submit(function, item) for item in itertools.islice(rest, 4 * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            more = itertools.islice(rest, len(done))
            running |= {pool.submit(function, item) for item in more}
            for future in done:
                yield future.result()
