"""Read cut-outs (images of one object with an alpha channel) and photographs as backgrounds."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError
from ..files.image_reader import image_size, open_image, read_content, read_image
from ..files.images import images_in
from ..files.tables import find_column, find_separator, read_rows
from .wording import SIZE_WORDS

__all__ = [
    'NAMES_FILE',
    'Cutout',
    'find_backgrounds',
    'find_cutouts',
    'frequent',
    'hold_out',
    'hold_out_cutouts',
    'read_cutout',
]

NAMES_FILE = 'names.csv'
"""Name of a table that is read without being asked for."""

OPAQUE = 128  # least alpha of a pixel that belongs to the object
MIN_SIDE = 8  # of the box around these pixels, in pixels
MAX_SIDE = 512  # cut-outs are kept at this size; no scene shows them larger
_FLIP = {'yes': True, '': True, 'no': False}


@dataclass(frozen=True)
class Cutout:
    """Represent an image of one object with an alpha channel.

    Attributes:
        path: The file.
        file: The same relative to the folder of cut-outs; identifies the object.
        name: What sentences call it.
        properties: Further words for it: pairs of a column of the table and its word.
        flip: Whether it may be mirrored.
    """

    path: str
    file: str
    name: str
    properties: tuple[tuple[str, str], ...] = ()
    flip: bool = True


def find_cutouts(
    folder: str | os.PathLike, table: str | os.PathLike | None = None
) -> tuple[list[Cutout], tuple[str, ...]]:
    """Find the cut-outs in a folder and their names.

    Without a table, the name of ``dog/1.png`` is that of its folder, and that of ``red_fox.png`` or
    ``red_fox_2.png`` is the name of the file without the number. A table is a CSV file with the
    columns ``file`` (relative to the folder) and ``name``. Every further column holds one kind of
    adjective, such as ``color``, and may be empty where it is unknown; a column ``flip`` says 'no'
    for objects that must not be mirrored. Files that are not in the table are left out.

    Args:
        folder: The folder.
        table: The table; by default ``names.csv`` in the folder, if it is there.

    Returns:
        The cut-outs, sorted by file, and the columns of adjectives.

    Raises:
        InputError: There are no cut-outs, or the table has an error.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f'cut-outs {folder}: found no such folder')
    if table is None and (folder / NAMES_FILE).is_file():
        table = folder / NAMES_FILE
    if table is not None:
        return _read_table(folder, table)
    found = []
    for path in images_in(folder):
        file = path.relative_to(folder)
        name = file.parent.name or re.sub(r'[ _-]*\d*$', '', file.stem)
        found.append(Cutout(str(path), file.as_posix(), _checked_name(name, str(path))))
    return found, ()


def _checked_name(text: str, where: str) -> str:
    name = ' '.join(re.sub(r'[_-]', ' ', text).split()).lower()
    if not name or not all(word.isalpha() for word in name.split()):
        raise InputError(f'{where}: found the name {text!r}, expected words')
    sizes = {word for words in SIZE_WORDS.values() for word in words}.intersection(name.split())
    if sizes:
        raise InputError(f'{where}: found the name {text!r}, expected none with a word for a size')
    return name


def _read_table(folder: Path, table: str | os.PathLike) -> tuple[list[Cutout], tuple[str, ...]]:
    with open(table, encoding='utf-8-sig', errors='replace') as file:
        first = file.readline()
    separator = find_separator(first, ('file',))
    rows = read_rows(table, separator or ',')
    header = [cell.strip(' \ufeff').lower() for cell in rows[0].cells] if rows else []
    columns = {name: find_column(header, (name,)) for name in ('file', 'name', 'flip')}
    if columns['file'] is None or columns['name'] is None:
        raise InputError(f"{table}: found columns {header}, expected 'file' and 'name'")
    if len(set(header)) < len(header):
        raise InputError(f'{table}: found columns {header}, expected each only once')
    adjectives = tuple(name for name in header if name not in columns)
    if {'size', 'cutout', ''}.intersection(adjectives):
        raise InputError(f"{table}: found columns {header}, expected no 'size' and no 'cutout'")
    found: dict[str, Cutout] = {}
    for where, cells in rows[1:]:
        if len(cells) > len(header):
            raise InputError(f'{where}: found {len(cells)} cells, expected {len(header)}')
        row = dict(zip(header, (cell.strip() for cell in cells)))
        key = Path(row.get('file', '')).as_posix()
        path = folder / key
        if key in found:
            raise InputError(f'{where}: found {key!r} a second time, expected each file only once')
        if not path.is_file():
            raise InputError(f'{where}: found no file {path}')
        flip = row.get('flip', '').lower()
        if flip not in _FLIP:
            raise InputError(f"{where}: flip: found {flip!r}, expected 'yes' or 'no'")
        words = tuple((name, row[name].lower()) for name in adjectives if row.get(name))
        name = _checked_name(row.get('name', ''), where)
        found[key] = Cutout(str(path), key, name, words, _FLIP[flip])
    if not found:
        raise InputError(f'{table}: found no rows, expected cut-outs')
    return sorted(found.values(), key=lambda cutout: cutout.file), adjectives


@functools.lru_cache(maxsize=2048)
def read_cutout(path: str) -> np.ndarray:
    """Read a cut-out and crop it to its visible part.

    Returns:
        (h, w, 4) uint8, blue, green, red and alpha. The longer side has at most 512 pixels.

    Raises:
        InputError: The file is not an image, or has no alpha channel, or hardly a visible pixel.
    """
    read_image(path)  # says what is wrong with a file that cannot be decoded
    with open_image(read_content(path)) as image:
        if not image.has_transparency_data:
            raise InputError(
                f'image {path}: found no alpha channel (mode {image.mode}), expected one that is '
                '0 around the object'
            )
        pixels = np.asarray(ImageOps.exif_transpose(image).convert('RGBA'))
    rows, columns = np.nonzero(pixels[..., 3] >= OPAQUE)
    height, width = (int(np.ptp(each)) + 1 if len(each) else 0 for each in (rows, columns))
    if max(height, width) < MIN_SIDE:
        raise InputError(
            f'image {path}: found {width} x {height} pixels with an alpha of at least {OPAQUE}, '
            f'expected a longer side of at least {MIN_SIDE}'
        )
    x, y = columns.min(), rows.min()
    pixels = pixels[y : y + height, x : x + width]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)


def find_backgrounds(folder: str | os.PathLike, least_side: int) -> list[str]:
    """Return the photographs in a folder, sorted by path.

    Args:
        folder: The folder, with subfolders.
        least_side: Least width and height of a photograph in pixels.

    Raises:
        InputError: There are none, or one is too small or cannot be read.
    """
    if not Path(folder).is_dir():
        raise InputError(f'backgrounds {folder}: found no such folder')
    paths = [str(path) for path in images_in(folder)]
    for path in paths:
        width, height = image_size(path)
        if min(width, height) < least_side:
            raise InputError(
                f'image {path}: found {width} x {height} pixels, expected at least '
                f'{least_side} x {least_side}, the size of the scenes'
            )
        read_image(path)
    return paths


def hold_out(count: int, share: float, rng: np.random.Generator) -> set[int]:
    """Choose which of ``count`` things are held out: at least one, and not all of them.

    Args:
        count: Number of things. Of less than two, none is held out.
        share: The share of them that is held out; 0 for none.
        rng: Chooses.
    """
    if count < 2 or share == 0:
        return set()
    held = min(count - 1, max(1, round(share * count)))
    return set(rng.permutation(count)[:held].tolist())


def hold_out_cutouts(
    cutouts: Sequence[Cutout], share: float, seed: int
) -> tuple[list[Cutout], list[Cutout]]:
    """Split cut-outs into those that are seen in training and those that are held out.

    Of every name with several cut-outs, at least one is held out and one is not.

    Returns:
        The seen ones and the held-out ones, each in the given order.
    """
    rng = np.random.default_rng([seed, 1])
    groups: dict[str, list[Cutout]] = defaultdict(list)
    for cutout in cutouts:
        groups[cutout.name].append(cutout)
    held = {
        group[i].file
        for _, group in sorted(groups.items())
        for i in hold_out(len(group), share, rng)
    }
    return (
        [cutout for cutout in cutouts if cutout.file not in held],
        [cutout for cutout in cutouts if cutout.file in held],
    )


def frequent(
    cutouts: Sequence[Cutout], least: int, folder: str | os.PathLike = 'cut-outs'
) -> list[Cutout]:
    """Return the cut-outs whose names at least this many of them have.

    Args:
        cutouts: The cut-outs.
        least: Least number of cut-outs of a name.
        folder: Their folder, for the error.

    Raises:
        InputError: Fewer than two names are left, which tags need.
    """
    counts = Counter(cutout.name for cutout in cutouts)
    names = [name for name, count in counts.items() if count >= least]
    if len(names) < 2:
        number = f'{len(names)} name{"s" * (len(names) != 1)}'
        each = f' with at least {least} cut-outs' if least > 1 else ''
        raise InputError(f'{os.fspath(folder)}: found {number}{each}, expected at least 2 names')
    return [cutout for cutout in cutouts if counts[cutout.name] >= least]
