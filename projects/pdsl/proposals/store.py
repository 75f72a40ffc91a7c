"""On-disk proposals of a whole dataset, read one image at a time."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    check_fields,
    read_json,
    shown,
)
from projects.common.files.array_files import read_npy
from projects.common.files.atomic import write_atomically

from .identity import KEYS, ImageIdentity, check_identity, names_of_image, upright_size

__all__ = ['ProposalStore', 'in_view', 'tidy', 'write_store']

_FORMATS = ('mmtriad-proposals-1', 'mmtriad-proposals-2')  # the first says nothing of its images
_TOLERANCE = 1  # pixels that a box may exceed its image by


def tidy(
    boxes: np.ndarray, scores: np.ndarray | None, max_proposals: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sort proposals by descending score and drop those that round to the same pixels as another.

    Equal scores keep their order. Among equal boxes, the best one is kept. Boxes without area are
    dropped.

    Args:
        boxes: Boxes (n, 4), XYXY in pixels.
        scores: Scores (n,), or None if all are 0.
        max_proposals: Keep at most this many of the best proposals; None keeps all.

    Returns:
        Boxes (m, 4) and scores (m,), float32.

    Raises:
        ValueError: The shapes do not match, or a number is not finite.
    """
    boxes = np.asarray(boxes, dtype=np.float32)
    boxes = boxes.reshape(0, 4) if not boxes.size else boxes
    scores = np.zeros(len(boxes)) if scores is None else np.asarray(scores)
    scores = scores.astype(np.float32).reshape(-1)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(scores) != len(boxes):
        raise InputError(
            f'boxes of shape {boxes.shape} with {len(scores)} scores, expected (n, 4) and n'
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InputError('a box or score is not finite')
    order = np.argsort(-scores, kind='stable')
    order = order[(boxes[order, 2] > boxes[order, 0]) & (boxes[order, 3] > boxes[order, 1])]
    first = np.unique(np.rint(boxes[order]), axis=0, return_index=True)[1]
    order = order[np.sort(first)][:max_proposals]
    return boxes[order], scores[order]


def in_view(
    boxes: np.ndarray,
    scores: np.ndarray,
    size: tuple[int, int],
    min_side: float = 1.0,
    deduplicate: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Clip proposals to a view and drop those that are too small or double there.

    Args:
        boxes: Boxes (n, 4), XYXY in pixels of the view, best first.
        scores: Scores (n,).
        size: Height and width of the view, in pixels.
        min_side: Least side of a box, in pixels of the view.
        deduplicate: Whether to keep only the first of boxes that round to the same pixels.

    Returns:
        Boxes (m, 4), float32, and scores (m,).
    """
    height, width = size
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    keep = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= min_side)
    if deduplicate:
        first = np.unique(np.rint(boxes[keep]), axis=0, return_index=True)[1]
        keep = keep[np.sort(first)]
    return boxes[keep], scores[keep]


class ProposalStore:
    """Read proposals from a folder of plain, memory-mapped NumPy files.

    ``index.json`` lists the images. ``offsets.npy`` (n + 1,) says which rows of ``boxes.npy``
    (N, 4), XYXY in pixels, and ``scores.npy`` (N,) belong to each image. All workers on a machine
    share the pages they read, and each of them holds only the index in memory.

    The index says what the names are (``keys``) and what is known of each image (``images``): its
    height, width and checksum. Stores of earlier versions may lack both. A store that does not say
    what its names are is searched for file names, then for ids, and a warning says so.

    Args:
        folder: Folder written by :func:`write_store`.

    Attributes:
        keys: One of :data:`~projects.pdsl.proposals.identity.KEYS`; None if the store says nothing.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: The files do not match each other.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        index = self.folder / 'index.json'
        if not index.is_file():
            raise FileNotFoundError(
                f'{index}: does not exist; proposals in another format are converted by '
                'tools/dataset_converters/proposals.py, and made by '
                'tools/misc/generate_proposals.py'
            )
        content = read_json(index)
        check_fields(content, str(index), format=str, names=list)
        if content['format'] not in _FORMATS:
            raise InputError(
                f"{index}: field 'format' is {shown(content['format'])}, expected {_FORMATS[-1]!r}"
            )
        names = content['names']
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise InputError(f'{index}: names: expected texts, each once')
        self._rows = {name: row for row, name in enumerate(names)}
        self.keys = self._read_keys(content)
        self.images = _read_identities(content, str(index))
        self._offsets = read_npy(self.folder / 'offsets.npy')
        self._boxes: np.ndarray | None = None
        self._scores: np.ndarray | None = None
        self._checked: set[str] = set()
        if self._offsets.shape != (len(self._rows) + 1,):
            raise InputError(
                f'{self.folder}: {len(self._rows)} names with {self._offsets.size} offsets, '
                f'expected {len(self._rows) + 1}'
            )
        steps = np.diff(self._offsets)
        if self._offsets.dtype.kind not in 'iu' or self._offsets[0] != 0 or (steps < 0).any():
            raise InputError(f'{self.folder}/offsets.npy: expected integers that rise from 0')

    def _read_keys(self, content: Mapping[str, Any]) -> str | None:
        index = self.folder / 'index.json'
        keys = content.get('keys')
        if keys is None and (self.folder / 'settings.json').is_file():
            keys = 'paths'  # written by generate_proposals.py before stores said so
        if keys is None:
            print_log(
                f'{index}: does not say what its names are; file names are tried first, then ids '
                f'(a field "keys" that is one of {", ".join(KEYS)} would say it)',
                'current',
                logging.WARNING,
            )
        elif keys not in KEYS:
            raise InputError(f'{index}: keys: found {shown(keys)}, expected one of {KEYS}')
        return keys

    @property
    def names(self) -> list[str]:
        """Return the names of the images, in the order of the rows."""
        return list(self._rows)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def find(self, img_path: str | os.PathLike, img_id: object = None) -> str | None:
        """Return the name under which the store lists an image, or None.

        In a store of ids, the name is the id. Otherwise, it is the longest end of the path that is
        in the store, with or without the suffix of the file.

        Raises:
            InputError: The store does not say what its names are, and file name and id lead to
                different entries.
        """
        by_id = None if img_id is None or str(img_id) not in self._rows else str(img_id)
        if self.keys == 'ids':
            return by_id
        names = names_of_image(img_path, self.keys)
        by_name = next((name for name in names if name in self._rows), None)
        if self.keys is None and by_name and by_id and by_name != by_id:
            raise InputError(
                f'{self.folder}/index.json: both {by_name!r} (file name) and {by_id!r} (id) may be '
                f'{img_path}, and the file does not say what its names are; add "keys": "ids" or '
                '"keys": "names" to it'
            )
        return by_name or (by_id if self.keys is None else None)

    def check(
        self,
        name: str,
        img_path: str | os.PathLike,
        shape: tuple[int, int] | None = None,
        content: bool = True,
    ) -> None:
        """Refuse an image other than the one that an entry was made for.

        Args:
            name: Name of the entry, from :meth:`find`.
            img_path: The image.
            shape: Height and width of the decoded image in pixels; None reads them if necessary.
            content: Compare the content of the file, too, if the store knows its checksum. Each
                image is compared once.

        Raises:
            InputError: The image has another size or content. If the store does not know the size:
                the boxes reach beyond the image.
        """
        known = self.images.get(name)
        what = f'{self.folder}: {name!r}'
        if known is not None:
            content = content and name not in self._checked
            check_identity(known, img_path, shape, what=what, content=content)
            if content:
                self._checked.add(name)
            return
        if shape is None and not os.path.isfile(img_path):
            return  # nothing to compare; whoever loads the image says that it is absent
        height, width = shape or upright_size(img_path)
        check_boxes_inside(self.read(name)[0], height, width, f'{what}, found for {img_path}')

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of an image's boxes (n, 4), XYXY in pixels, and scores (n,), float32."""
        if self._boxes is None or self._scores is None:
            boxes, scores = (read_npy(self.folder / f'{n}.npy', 'r') for n in ('boxes', 'scores'))
            count = int(self._offsets[-1])
            if boxes.shape != (count, 4) or scores.shape != (count,):
                raise InputError(
                    f'{self.folder}: boxes {boxes.shape} and scores {scores.shape}, '
                    f'expected {(count, 4)} and {(count,)}'
                )
            self._boxes, self._scores = boxes, scores
        row = self._rows[name]
        rows = slice(*self._offsets[row : row + 2])
        return np.array(self._boxes[rows]), np.array(self._scores[rows])

    def __getstate__(self) -> dict:
        """Return the state without the memory maps, which would be pickled as whole arrays."""
        return dict(self.__dict__, _boxes=None, _scores=None)


def check_boxes_inside(boxes: np.ndarray, height: int, width: int, what: str) -> None:
    """Raise ``InputError`` if boxes (n, 4), XYXY in pixels, reach beyond an image."""
    right, bottom = boxes[:, 2:].max(axis=0) if len(boxes) else (0, 0)
    if right > width + _TOLERANCE or bottom > height + _TOLERANCE:
        raise InputError(
            f'{what}: boxes reach x = {right:g} and y = {bottom:g}, but the image has '
            f'{width} x {height} pixels; are they those of another image?'
        )


def _read_identities(content: Mapping[str, Any], where: str) -> dict[str, ImageIdentity]:
    """Return what an index knows of the images, by name."""
    rows = content.get('images', [None] * len(content['names']))
    if not isinstance(rows, list) or len(rows) != len(content['names']):
        raise InputError(f'{where}: images: expected a list, an entry for each name')
    found = {}
    for name, row in zip(content['names'], rows):
        if row is None:
            continue
        if (
            not isinstance(row, list)
            or len(row) != 3
            or not all(
                type(value) is int or (value is None and i == 2) for i, value in enumerate(row)
            )
        ):
            raise InputError(
                f'{where}: images: found {shown(row)}, expected height, width and checksum'
            )
        found[name] = ImageIdentity(*row)
    return found


def write_store(
    folder: str | os.PathLike,
    proposals: Iterable[tuple[str, np.ndarray, np.ndarray | None]],
    max_proposals: int | None = None,
    keys: str | None = 'paths',
    identify: Callable[[str], ImageIdentity | None] = lambda name: None,
) -> ProposalStore:
    """Write a store, which can be opened only once it is complete.

    Args:
        folder: Folder to write to.
        proposals: Name, boxes (n, 4), and scores (n,) or None of each image; see :func:`tidy`.
        max_proposals: Keep at most this many of the best proposals per image.
        keys: What the names are, one of :data:`~projects.pdsl.proposals.identity.KEYS`; None leaves
            it open.
        identify: Returns what is known of the image of a name. It is called after the proposals of
            the image were taken from ``proposals``.

    Raises:
        ValueError: A name is repeated, :func:`tidy` rejects an image's proposals, or they reach
            beyond the image.
    """
    folder = Path(folder)
    identities: dict[str, ImageIdentity | None] = {}
    all_boxes, all_scores, ends = [], [], [0]
    for name, boxes, scores in proposals:
        if name in identities:
            raise InputError(f'{folder}: two images are called {name!r}')
        identities[name] = known = identify(name)
        try:
            boxes, scores = tidy(boxes, scores, max_proposals)
        except ValueError as error:
            raise InputError(f'proposals of {name!r}: {error}') from None
        if known is not None:
            check_boxes_inside(boxes, known.height, known.width, f'proposals of {name!r}')
        all_boxes.append(boxes)
        all_scores.append(scores)
        ends.append(ends[-1] + len(boxes))
    (folder / 'index.json').unlink(missing_ok=True)  # restored last, once the arrays are complete
    for name, array in (
        ('offsets', np.array(ends, dtype=np.int64)),
        ('boxes', np.concatenate([np.zeros((0, 4), np.float32), *all_boxes])),
        ('scores', np.concatenate([np.zeros(0, np.float32), *all_scores])),
    ):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomically(folder / f'{name}.npy', buffer.getbuffer())
    index = dict(
        format=_FORMATS[-1], keys=keys, names=list(identities), images=list(identities.values())
    )
    write_atomically(folder / 'index.json', json.dumps(index).encode())
    return ProposalStore(folder)
