"""Proposal files of other code bases."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from projects.common.errors import InputError
from projects.common.files.annotation_files import shown
from projects.common.files.array_files import read_mat
from projects.common.files.atomic import write_atomically
from projects.common.files.unpickle import load_pickle

from .identity import ImageIdentity
from .store import ProposalStore, tidy

__all__ = [
    'FORMATS',
    'ProposalSource',
    'find_format',
    'open_proposals',
    'read_proposals',
    'write_detectron2',
    'write_mmdet',
]

FORMATS = ('store', 'mcg', 'selective_search', 'detectron', 'mmdet')
_BOXES = ('boxes', 'bboxes')
_SCORES = ('scores', 'bboxes_scores', 'objectness_logits')
_IDS = ('ids', 'indexes')
_XYXY_ABS, _XYWH_ABS = 0, 1  # detectron2's BoxMode

_Entry = tuple[str, np.ndarray, np.ndarray | None]


@dataclass
class ProposalSource:
    """Hold the proposals of a file or folder, and what it says about its images.

    Attributes:
        keys: What the names are, one of :data:`~projects.pdsl.proposals.identity.KEYS`; None if the
            source does not say.
        entries: Name, boxes (n, 4) XYXY in pixels, and scores (n,) or None of each image.
        images: What the source knows of the images, by name.
    """

    keys: str | None
    entries: Iterator[_Entry]
    images: Mapping[str, ImageIdentity] = field(default_factory=dict)


def find_format(path: str | os.PathLike, trust_pickle: bool = False) -> str:
    """Return which of ``FORMATS`` a file or folder has.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: The format is none of ``FORMATS``.
    """
    path = Path(path)
    if path.is_dir():
        if (path / 'index.json').is_file():
            return 'store'
        if next(path.glob('*.mat'), None):
            return 'mcg'
        raise InputError(f'{path}: holds neither index.json nor .mat files of MCG')
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
    """Yield each image's name, boxes (n, 4) XYXY in pixels, and scores (n,) or None.

    See :func:`open_proposals`.
    """
    return open_proposals(path, format, names, trust_pickle).entries


def open_proposals(
    path: str | os.PathLike,
    format: str | None = None,
    names: Sequence[str] | None = None,
    trust_pickle: bool = False,
) -> ProposalSource:
    """Open proposals in one of these formats.

    ===================  ===========================================================================
    ``store``            folder of :class:`~projects.pdsl.proposals.ProposalStore`
    ``mcg``              folder with one ``.mat`` per image: ``boxes`` (y1, x1, y2, x2),
                         counted from 1, and ``scores``; or ``bboxes`` and ``bboxes_scores``
    ``selective_search`` one ``.mat``: a cell ``boxes`` in the order of the image set, boxes as
                         in MCG, no scores; ``names`` is the image set unless ``images`` is given
    ``detectron``        ``.pkl`` of Detectron (``boxes, scores, indexes``) or detectron2
                         (``boxes, objectness_logits, ids, bbox_mode``)
    ``mmdet``            ``.pkl`` that maps paths (folder and file name) to ``bboxes`` and
                         ``scores``, which may be an ``InstanceData`` as mmdet's ``DumpProposals``
                         writes it, or to an array with four or five columns
    ===================  ===========================================================================

    One is subtracted from corners that are counted from 1, as in Detectron's converters. Ids are
    converted to strings: the integer 154 becomes '154'. Names are ids if they are integers; the
    other ids of Detectron's files, such as '2007_000033', are file names.

    Args:
        path: File or folder.
        format: One of ``FORMATS``; None detects it.
        names: The image set of a Selective Search file that does not name its images.
        trust_pickle: Unpickle without restrictions, which runs any code in the file.

    Raises:
        ValueError: The content does not match the format, or names are given to a file that has
            other names.
    """
    format = format or find_format(path, trust_pickle)
    if format not in FORMATS:
        raise InputError(f'format of proposals: found {format!r}, expected one of {FORMATS}')
    path = Path(path)
    if names is not None and format != 'selective_search':
        raise InputError(
            f'{path}: names of an image set are given, but proposals of the format {format!r} name '
            'their images'
        )
    if format == 'store':
        store = ProposalStore(path)
        stored = ((name, *store.read(name)) for name in store.names)
        return ProposalSource(store.keys, stored, store.images)
    if format == 'mcg':
        return ProposalSource('names', _read_mcg(path))
    if format == 'selective_search':
        return ProposalSource('paths', _read_selective_search(path, names))
    content = load_pickle(path, trust=trust_pickle)
    if not isinstance(content, Mapping):
        raise InputError(f'{path}: holds a {type(content).__name__}, expected a dict')
    if format == 'mmdet':
        is_ids = content and all(isinstance(name, Integral) for name in content)
        return ProposalSource('ids' if is_ids else 'paths', _read_mmdet(path, content))
    all_boxes, ids, all_scores = _detectron_lists(path, content)
    is_ids = all(re.fullmatch('0|[1-9][0-9]*', str(each)) for each in ids)
    entries = _read_detectron(path, content, all_boxes, ids, all_scores)
    return ProposalSource('ids' if is_ids else 'names', entries)


def _pick(content: Mapping, fields: Sequence[str]) -> str | None:
    return next((field for field in fields if field in content), None)


def _field(where: str, content: Mapping, fields: Sequence[str]) -> Any:
    field = _pick(content, fields)
    if field is None:
        found = ', '.join(str(key) for key in list(content)[:8] if not str(key).startswith('__'))
        raise InputError(f'{where}: no field {" or ".join(fields)}; it has {found or "none"}')
    return content[field]


def _from_matlab(where: str, boxes: Any) -> np.ndarray:
    """Convert (y1, x1, y2, x2) counted from 1 to XYXY counted from 0."""
    boxes = np.asarray(boxes)
    if not boxes.size:
        return np.zeros((0, 4), dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in 'iuf':
        raise InputError(f'{where}: boxes are {boxes.dtype} {boxes.shape}, expected numbers (n, 4)')
    return boxes[:, [1, 0, 3, 2]].astype(np.float32) - 1


def _array(where: str, values: Any, dtype: type = np.float32) -> np.ndarray:
    """Convert values to an array of type ``dtype``.

    Raises:
        ValueError: The values are not numbers, or are nested unevenly.
    """
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f'{where}: found {shown(values)}, expected numbers') from None


def _numbers(where: str, boxes: Any, scores: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return boxes (n, 4) float32 and scores (n,) float64, or None.

    Raises:
        ValueError: The shapes or types do not match, or a value is not finite.
    """
    boxes = _array(where, boxes)
    boxes = boxes.reshape(0, 4) if not boxes.size else boxes
    scores = None if scores is None else np.ravel(_array(where, scores, np.float64))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f'{where}: boxes of shape {boxes.shape}, expected (n, 4)')
    if scores is not None and len(scores) != len(boxes):
        raise InputError(f'{where}: {len(boxes)} boxes with {len(scores)} scores')
    with np.errstate(over='ignore'):  # scores are stored as float32
        finite = scores is None or np.isfinite(scores.astype(np.float32)).all()
    if not finite or not np.isfinite(boxes).all():
        raise InputError(f'{where}: a box or score is not finite')
    return boxes, scores


def _read_mcg(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.glob('*.mat')):
        content = read_mat(path)
        boxes = _from_matlab(str(path), _field(str(path), content, _BOXES))
        scores = _pick(content, _SCORES)
        scores = None if scores is None else content[scores]
        yield path.stem, *_numbers(str(path), boxes, scores)


def _read_selective_search(path: Path, names: Sequence[str] | None) -> Iterator[_Entry]:
    content = read_mat(path)
    cells = np.ravel(_field(str(path), content, _BOXES))
    if 'images' in content:
        own = [str(next(iter(np.ravel(name)), '')) for name in np.ravel(content['images'])]
        if names is not None and list(names) != own:
            raise InputError(
                f'{path}: names its own images, such as {shown(own[:1])}, and the given image set '
                f'has others, such as {shown(list(names)[:1])}; leave the image set out'
            )
        names = own
    if names is None:
        raise InputError(f'{path}: the file names no images; give the image set it was made for')
    if len(names) != len(cells):
        raise InputError(f'{path}: proposals of {len(cells)} images, image set of {len(names)}')
    for name, boxes in zip(names, cells):
        where = f'{path}, {shown(name)}'
        yield str(name), *_numbers(where, _from_matlab(where, boxes), None)


def _detectron_lists(path: Path, content: Mapping) -> list[list]:
    """Return boxes, ids and scores, one of each per image."""
    lists = [_field(str(path), content, fields) for fields in (_BOXES, _IDS, _SCORES)]
    if not all(isinstance(entries, (list, tuple, np.ndarray)) for entries in lists):
        kinds = ', '.join(type(entries).__name__ for entries in lists)
        raise InputError(f'{path}: boxes, ids and scores are {kinds}, expected lists')
    lists = [
        list(np.atleast_1d(entries)) if isinstance(entries, np.ndarray) else list(entries)
        for entries in lists
    ]
    if len({len(entries) for entries in lists}) > 1:
        boxes, ids, scores = map(len, lists)
        raise InputError(f'{path}: {ids} ids, {boxes} boxes, {scores} scores')
    return lists


def _read_detectron(
    path: Path, content: Mapping, all_boxes: list, ids: list, all_scores: list
) -> Iterator[_Entry]:
    mode = content.get('bbox_mode', _XYXY_ABS)
    if not isinstance(mode, (int, np.integer)) or mode not in (_XYXY_ABS, _XYWH_ABS):
        raise InputError(f'{path}: bbox_mode is {shown(mode)}, expected 0 (XYXY) or 1 (XYWH)')
    for name, boxes, scores in zip(ids, all_boxes, all_scores):
        boxes, scores = _numbers(f'{path}, {shown(name)}', boxes, scores)
        if mode == _XYWH_ABS:
            boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        yield str(name), boxes, scores


def _read_mmdet(path: Path, content: Mapping) -> Iterator[_Entry]:
    for name, entry in content.items():
        where = f'{path}, {shown(name)}'
        if isinstance(entry, Mapping):
            boxes, scores = _field(where, entry, ('bboxes',)), entry.get('scores')
        else:
            boxes, scores = _array(where, entry), None
            if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
                raise InputError(f'{where}: shape {boxes.shape}, expected (n, 4) or (n, 5)')
            boxes, scores = boxes[:, :4], boxes[:, 4] if boxes.shape[1] == 5 else None
        boxes, scores = _numbers(where, boxes, scores)
        yield str(name), boxes, scores


def write_detectron2(path: str | os.PathLike, proposals: Iterator[_Entry]) -> int:
    """Write detectron2's ``.pkl``, best proposals first; return the number of images."""
    content: dict[str, Any] = dict(boxes=[], objectness_logits=[], ids=[], bbox_mode=_XYXY_ABS)
    for name, boxes, scores in proposals:
        boxes, scores = tidy(boxes, scores)
        content['boxes'].append(boxes)
        content['objectness_logits'].append(scores)
        content['ids'].append(name)
    write_atomically(Path(path), pickle.dumps(content, protocol=4))
    return len(content['ids'])


def write_mmdet(path: str | os.PathLike, proposals: Iterator[_Entry]) -> int:
    """Write the dict that mmdet's ``proposal_file`` reads; return the number of images.

    Raises:
        ValueError: Two images have one name.
    """
    content: dict[str, dict] = {}
    for name, boxes, scores in proposals:
        if name in content:
            raise InputError(f'{path}: two images have the key {name!r} of mmdet')
        boxes, scores = tidy(boxes, scores)
        content[name] = dict(bboxes=boxes, scores=scores)
    write_atomically(Path(path), pickle.dumps(content, protocol=4))
    return len(content)
