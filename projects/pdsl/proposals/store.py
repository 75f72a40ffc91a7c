"""On-disk proposals of a whole dataset, read one image at a time."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import (
    check_fields,
    read_json,
    shown,
)
from projects.common.files.array_files import read_npy
from projects.common.files.atomic import write_atomically

__all__ = ['ProposalStore', 'names_of_picture', 'tidy', 'write_store']

_FORMAT = 'mmtriad-proposals-1'


def names_of_picture(img_path: str | os.PathLike, img_id: object = None) -> list[str]:
    """Return the names under which a store may list an image: its id, then the end of its path.

    The end of the path is the file name without and with its suffix, then both with one and with
    two parent folders.
    """
    path = Path(os.path.normpath(img_path))
    ends = [name.split('/') for name in (path.with_suffix('').as_posix(), path.as_posix())]
    names = [] if img_id is None else [str(img_id)]
    for count in (1, 2, 3):
        names += ['/'.join(parts[-count:]) for parts in ends]
    return list(dict.fromkeys(names))


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


class ProposalStore:
    """Read proposals from a folder of plain, memory-mapped NumPy files.

    ``index.json`` lists the images. ``offsets.npy`` (n + 1,) says which rows of ``boxes.npy``
    (N, 4), XYXY in pixels, and ``scores.npy`` (N,) belong to each image. All workers on a machine
    share the pages they read, and each of them holds only the index in memory.

    Args:
        folder: Folder written by :func:`write_store`.

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
        if content['format'] != _FORMAT:
            raise InputError(
                f"{index}: field 'format' is {shown(content['format'])}, expected {_FORMAT!r}"
            )
        names = content['names']
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise InputError(f'{index}: names: expected texts, each once')
        self._rows = {name: row for row, name in enumerate(names)}
        self._offsets = read_npy(self.folder / 'offsets.npy')
        self._boxes: np.ndarray | None = None
        self._scores: np.ndarray | None = None
        if self._offsets.shape != (len(self._rows) + 1,):
            raise InputError(
                f'{self.folder}: {len(self._rows)} names with {self._offsets.size} offsets, '
                f'expected {len(self._rows) + 1}'
            )
        steps = np.diff(self._offsets)
        if self._offsets.dtype.kind not in 'iu' or self._offsets[0] != 0 or (steps < 0).any():
            raise InputError(f'{self.folder}/offsets.npy: expected integers that rise from 0')

    @property
    def names(self) -> list[str]:
        """Return the names of the images, in the order of the rows."""
        return list(self._rows)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def find(self, *names: str) -> str | None:
        """Return the first of the given names that is in the store, or None."""
        return next((name for name in names if name in self._rows), None)

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


def write_store(
    folder: str | os.PathLike,
    proposals: Iterable[tuple[str, np.ndarray, np.ndarray | None]],
    max_proposals: int | None = None,
) -> ProposalStore:
    """Write a store, which can be opened only once it is complete.

    Args:
        folder: Folder to write to.
        proposals: Name, boxes (n, 4), and scores (n,) or None of each image; see :func:`tidy`.
        max_proposals: Keep at most this many of the best proposals per image.

    Raises:
        ValueError: A name is repeated, or :func:`tidy` rejects an image's proposals.
    """
    folder = Path(folder)
    names: dict[str, None] = {}
    all_boxes, all_scores, ends = [], [], [0]
    for name, boxes, scores in proposals:
        if name in names:
            raise InputError(f'{folder}: two pictures are called {name!r}')
        names[name] = None
        try:
            boxes, scores = tidy(boxes, scores, max_proposals)
        except ValueError as error:
            raise InputError(f'proposals of {name!r}: {error}') from None
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
    index = dict(format=_FORMAT, names=list(names))
    write_atomically(folder / 'index.json', json.dumps(index).encode())
    return ProposalStore(folder)
