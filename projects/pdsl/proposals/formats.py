"""Proposal files of other code bases."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.common.files import write_atomically
from projects.common.unpickle import load_pickle

from .store import ProposalStore, tidy

__all__ = ['FORMATS', 'find_format', 'read_proposals', 'write_detectron2', 'write_mmdet']

FORMATS = ('store', 'mcg', 'selective_search', 'detectron', 'mmdet')
_BOXES = ('boxes', 'bboxes')
_SCORES = ('scores', 'bboxes_scores', 'objectness_logits')
_IDS = ('ids', 'indexes')
_XYXY_ABS, _XYWH_ABS = 0, 1  # detectron2's BoxMode

_Entry = tuple[str, np.ndarray, np.ndarray | None]


def find_format(path: str | os.PathLike, trust_pickle: bool = False) -> str:
    """Which of ``FORMATS`` a file or folder is in.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: In none of them.
    """
    path = Path(path)
    if path.is_dir():
        if (path / 'index.json').is_file():
            return 'store'
        if next(path.glob('*.mat'), None):
            return 'mcg'
        raise ValueError(f'{path}: holds neither index.json nor .mat files of MCG')
    if not path.is_file():
        raise FileNotFoundError(f'{path}: does not exist')
    if path.suffix == '.mat':
        return 'selective_search'
    content = load_pickle(path, trust=trust_pickle)
    return 'detectron' if isinstance(content, Mapping) and _pick(content, _IDS) else 'mmdet'


def read_proposals(
    path: str | os.PathLike,
    format: str | None = None,
    names: Sequence[str] | None = None,
    trust_pickle: bool = False,
) -> Iterator[_Entry]:
    """Name, boxes (n, 4) XYXY in pixels and scores (n,), or None, of each picture.

    ===================  ===========================================================================
    ``store``            folder of :class:`~projects.pdsl.proposals.ProposalStore`
    ``mcg``              folder of one ``.mat`` for each picture: ``boxes`` (y1, x1, y2, x2),
                         counted from 1, and ``scores``; or ``bboxes`` and ``bboxes_scores``
    ``selective_search`` one ``.mat``: a cell ``boxes`` in the order of the image set, boxes as
                         in MCG, no scores; ``names`` gives the image set unless ``images`` does
    ``detectron``        ``.pkl`` of Detectron (``boxes, scores, indexes``) or detectron2
                         (``boxes, objectness_logits, ids, bbox_mode``)
    ``mmdet``            ``.pkl`` of file names to ``bboxes`` and ``scores``, or to an array of
                         four or five columns
    ===================  ===========================================================================

    From corners counted from 1, one is subtracted, as Detectron's converters do. Ids are strings:
    the integer 154 is '154'.

    Args:
        path: File or folder.
        format: One of ``FORMATS``; None finds it.
        names: The image set of a Selective Search file.
        trust_pickle: Unpickle freely, which runs any code that the file contains.

    Raises:
        ValueError: The content is not as the format says.
    """
    format = format or find_format(path, trust_pickle)
    if format not in FORMATS:
        raise ValueError(f'format of proposals: found {format!r}, expected one of {FORMATS}')
    path = Path(path)
    if format == 'store':
        store = ProposalStore(path)
        return ((name, *store.read(name)) for name in store.names)
    if format == 'mcg':
        return _read_mcg(path)
    if format == 'selective_search':
        return _read_selective_search(path, names)
    content = load_pickle(path, trust=trust_pickle)
    if not isinstance(content, Mapping):
        raise ValueError(f'{path}: holds a {type(content).__name__}, expected a dict')
    return (_read_detectron if format == 'detectron' else _read_mmdet)(path, content)


def _pick(content: Mapping, fields: Sequence[str]) -> str | None:
    return next((field for field in fields if field in content), None)


def _field(where: str, content: Mapping, fields: Sequence[str]) -> Any:
    field = _pick(content, fields)
    if field is None:
        found = ', '.join(str(key) for key in list(content)[:8] if not str(key).startswith('__'))
        raise ValueError(f'{where}: no field {" or ".join(fields)}; it has {found or "none"}')
    return content[field]


def _load_mat(path: Path) -> dict:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(path)
    except NotImplementedError:
        raise ValueError(f'{path}: a MATLAB 7.3 file, expected one of version 7 or older') from None
    except (MatReadError, ValueError, TypeError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f'{path}: not a readable .mat file ({error})') from None


def _from_matlab(where: str, boxes: Any) -> np.ndarray:
    """(y1, x1, y2, x2) counted from 1 to XYXY counted from 0."""
    boxes = np.asarray(boxes)
    if not boxes.size:
        return np.zeros((0, 4), dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in 'iuf':
        raise ValueError(f'{where}: boxes are {boxes.dtype} {boxes.shape}, expected numbers (n, 4)')
    return boxes[:, [1, 0, 3, 2]].astype(np.float32) - 1


def _read_mcg(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.glob('*.mat')):
        content = _load_mat(path)
        boxes = _from_matlab(str(path), _field(str(path), content, _BOXES))
        scores = _pick(content, _SCORES)
        yield path.stem, boxes, None if scores is None else np.ravel(content[scores])


def _read_selective_search(path: Path, names: Sequence[str] | None) -> Iterator[_Entry]:
    content = _load_mat(path)
    cells = np.ravel(_field(str(path), content, _BOXES))
    if names is None and 'images' in content:
        names = [str(np.ravel(name)[0]) for name in np.ravel(content['images'])]
    if names is None:
        raise ValueError(f'{path}: the file names no pictures; give the image set it was made for')
    if len(names) != len(cells):
        raise ValueError(f'{path}: proposals of {len(cells)} pictures, image set of {len(names)}')
    for name, boxes in zip(names, cells):
        yield str(name), _from_matlab(f'{path}, {name}', boxes), None


def _read_detectron(path: Path, content: Mapping) -> Iterator[_Entry]:
    all_boxes, ids = _field(str(path), content, _BOXES), _field(str(path), content, _IDS)
    all_scores = _field(str(path), content, _SCORES)
    mode = int(content.get('bbox_mode', _XYXY_ABS))
    if mode not in (_XYXY_ABS, _XYWH_ABS):
        raise ValueError(f'{path}: bbox_mode is {mode}, expected 0 (XYXY) or 1 (XYWH)')
    if not len(all_boxes) == len(ids) == len(all_scores):
        raise ValueError(
            f'{path}: {len(ids)} ids, {len(all_boxes)} boxes, {len(all_scores)} scores'
        )
    for name, boxes, scores in zip(ids, all_boxes, all_scores):
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        if mode == _XYWH_ABS:
            boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        yield str(name), boxes, np.ravel(scores)


def _read_mmdet(path: Path, content: Mapping) -> Iterator[_Entry]:
    for name, entry in content.items():
        where = f'{path}, {name!r}'
        if isinstance(entry, Mapping):
            boxes = np.asarray(_field(where, entry, ('bboxes',)))
            scores = entry.get('scores')
        else:
            boxes = np.asarray(entry)
            if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
                raise ValueError(f'{where}: shape {boxes.shape}, expected (n, 4) or (n, 5)')
            boxes, scores = boxes[:, :4], boxes[:, 4] if boxes.shape[1] == 5 else None
        yield str(name), boxes, scores


def write_detectron2(path: str | os.PathLike, proposals: Iterator[_Entry]) -> int:
    """Write detectron2's ``.pkl``, best first; returns the number of pictures."""
    content: dict[str, Any] = dict(boxes=[], objectness_logits=[], ids=[], bbox_mode=_XYXY_ABS)
    for name, boxes, scores in proposals:
        boxes, scores = tidy(boxes, scores)
        content['boxes'].append(boxes)
        content['objectness_logits'].append(scores)
        content['ids'].append(name)
    write_atomically(Path(path), pickle.dumps(content, protocol=4))
    return len(content['ids'])


def write_mmdet(path: str | os.PathLike, proposals: Iterator[_Entry]) -> int:
    """Write the dict that mmdet's ``proposal_file`` reads; returns the number of pictures."""
    content = {}
    for name, boxes, scores in proposals:
        boxes, scores = tidy(boxes, scores)
        content[name] = dict(bboxes=boxes, scores=scores)
    write_atomically(Path(path), pickle.dumps(content, protocol=4))
    return len(content)
