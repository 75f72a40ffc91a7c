"""ECCV Caption and CxC: COCO's test captions with the matches that COCO itself does not know.

COCO counts a caption of another image as wrong even if it is true of the image. CxC (Parekh et al.,
"Crisscrossed Captions", 2021) and ECCV Caption (Chun et al., "ECCV Caption: Correcting False
Negatives by Collecting Machine-and-Human-verified Image-Caption Associations for MS-COCO", 2022)
add such matches. The package ``eccv-caption`` holds both.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from projects.common.bootstrap import Ratio
from projects.common.errors import InputError

__all__ = ['Matches', 'extended_matches', 'extended_statistics', 'query_scores']

TRUTHS = {'coco': ('r1', 'r5', 'r10'), 'cxc': ('r1', 'r5', 'r10'), 'eccv': ('r1', 'rp', 'map_at_r')}
IMAGES, CAPTIONS = 5000, 25000  # of COCO's Karpathy test split


@dataclass(frozen=True)
class Matches:
    """Hold the matches of the queries of one direction.

    Attributes:
        queries: (Q,) int64, row of each query: an image, or a caption.
        answers: For each query, the columns of its matches, captions or images.
        counts: (Q,) int64, number of its matches. A few are captions that the test split lacks
            (the sixth of an image); they count as never retrieved, as in the package.
    """

    queries: np.ndarray
    answers: Sequence[np.ndarray]
    counts: np.ndarray


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about a faster JSON reader
            from eccv_caption import Metrics
    except ModuleNotFoundError as error:
        raise InputError(
            f'ECCV Caption and CxC: no module {error.name!r}; pip install eccv-caption==0.1.0'
        ) from None
    return Metrics()


def extended_matches(dataset, truth: str) -> dict[str, Matches]:
    """Return the matches of a ground truth in both directions, as rows and columns of a data set.

    Args:
        dataset: COCO's test split of 5,000 images. Its captions have COCO's ids
            (``caption_ids``), or are in the order of the released ``testall_caps.txt``.
        truth: 'coco', 'cxc' or 'eccv'.

    Returns:
        The matches of 'i2t' and 't2i'.

    Raises:
        ValueError: The package is not installed, or the data set is not COCO's test split.
    """
    metrics = _package()
    known: dict[str, Mapping[int, Sequence[int]]] = getattr(metrics, f'{truth}_gts')
    captions = _caption_ids(dataset, metrics)
    owner = {number: images[0] for number, images in metrics.coco_gts['t2i'].items()}
    unknown = [number for number in captions if number not in owner]
    if unknown or len(set(captions)) != CAPTIONS:
        raise InputError(
            f"{dataset.source}: {len(unknown):,} of {len(captions):,} captions are not of COCO's "
            f'test split{f", the first has the id {unknown[0]}" if unknown else ""}; expected the '
            f'{CAPTIONS:,} captions of its {IMAGES:,} images'
        )
    images = [0] * dataset.img_size
    for number, row in zip(captions, dataset.image_of_caption.tolist(), strict=True):
        if images[row] not in (0, owner[number]):
            raise InputError(
                f'{dataset.source}: caption {number} is of the image {owner[number]}, but its '
                f'neighbours are of {images[row]}: the captions are in another order'
            )
        images[row] = owner[number]
    if len(set(images)) != len(images):
        raise InputError(f'{dataset.source}: two entries of one image, expected all its captions')
    rows = {'i2t': _index(images), 't2i': _index(captions)}
    columns = {'i2t': rows['t2i'], 't2i': rows['i2t']}
    return {way: _matches(known[way], rows[way], columns[way]) for way in ('i2t', 't2i')}


def _caption_ids(dataset, metrics: Any) -> list[int]:
    if dataset.caption_ids is not None:
        try:
            return [int(number) for number in dataset.caption_ids]
        except ValueError:
            raise InputError(
                f'{dataset.source}: ids of captions such as {dataset.caption_ids[0]!r}, expected '
                "COCO's numbers"
            ) from None
    if (dataset.img_size, dataset.text_size) != (IMAGES, CAPTIONS):
        raise InputError(
            f'{dataset.source}: no ids of captions, and {dataset.img_size:,} images with '
            f"{dataset.text_size:,} captions; expected COCO's test split, {IMAGES:,} images with "
            f'{CAPTIONS:,} captions'
        )
    return [int(number) for number in metrics.coco_ids]


def _index(numbers: Sequence[int]) -> dict[int, int]:
    return {number: row for row, number in enumerate(numbers)}


def _matches(
    known: Mapping[int, Sequence[int]], rows: Mapping[int, int], columns: Mapping[int, int]
) -> Matches:
    queries, answers, counts = [], [], []
    for query, found in known.items():
        if query in rows:
            queries.append(rows[query])
            answers.append(np.array([columns[a] for a in set(found) if a in columns], np.int64))
            counts.append(len(set(found)))
    return Matches(np.array(queries), answers, np.array(counts))


def query_scores(similarities: np.ndarray, matches: Matches) -> dict[str, np.ndarray]:
    """Compute the metrics of every query, from 0 to 1.

    Ties count against the model: of equal scores, those of wrong answers come first.

    Args:
        similarities: (N, A) of all queries and answers.
        matches: The matches of Q of the queries.

    Returns:
        ``r1``, ``r5`` and ``r10``, whether one of the first k answers is a match; ``rp``, the
        R-precision, and ``map_at_r`` (Musgrave et al., "A Metric Learning Reality Check", 2020),
        all (Q,), where R is the number of matches.
    """
    names = ('r1', 'r5', 'r10', 'rp', 'map_at_r')
    scores = {name: np.zeros(len(matches.queries)) for name in names}
    for i, (query, own, count) in enumerate(
        zip(matches.queries, matches.answers, matches.counts, strict=True)
    ):
        row = np.asarray(similarities[query], dtype=np.float64)
        mine = -np.sort(-row[own])
        others = np.sort(np.delete(row, own))
        before = len(others) - np.searchsorted(others, mine, side='left')
        order = np.arange(len(mine))
        ranks = before + order  # from 0, of every match
        for k in (1, 5, 10):
            scores[f'r{k}'][i] = (ranks < k).any()
        within = ranks < count
        scores['rp'][i] = within.sum() / count
        scores['map_at_r'][i] = ((order + 1) / (ranks + 1))[within].sum() / count
    return scores


def extended_statistics(dataset, similarities: np.ndarray, truth: str) -> dict[str, Ratio]:
    """Return the metrics of a ground truth as statistics of images.

    Args:
        dataset: See :func:`extended_matches`.
        similarities: (I, C)
        truth: 'coco', 'cxc' or 'eccv'.

    Returns:
        ``eccv/i2t/map_at_r``, ``cxc/t2i/r1`` and so on, in percent.

    Raises:
        ValueError: See :func:`extended_matches`.
    """
    found = {}
    for way, matches in extended_matches(dataset, truth).items():
        # Columns of a memory-mapped matrix are slow to read; 500 MB for the 5,000 images.
        matrix = similarities if way == 'i2t' else np.ascontiguousarray(similarities.T)
        values = query_scores(matrix, matches)
        images = matches.queries if way == 'i2t' else dataset.image_of_caption[matches.queries]
        counts = np.bincount(images, minlength=dataset.img_size).astype(np.float64)
        for name in TRUTHS[truth]:
            sums = np.bincount(images, values[name], minlength=dataset.img_size)
            found[f'{truth}/{way}/{name}'] = Ratio(sums, counts)
    return found
