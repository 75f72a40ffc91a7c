"""Recalls as functions of images, for confidence intervals and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from projects.common.bootstrap import Ratio, Statistic, Total
from projects.common.errors import InputError

from .recalls import TOP

__all__ = ['QueryRanks', 'ranks_of_answers', 'recall_statistics']


@dataclass(frozen=True)
class QueryRanks:
    """Hold the ranks of a test, counted from 0.

    Attributes:
        i2t: (I,) rank of the best caption of each image.
        t2i: (C,) rank of the image of each caption.
        image_of_caption: (C,) index of the image of each caption.
    """

    i2t: np.ndarray
    t2i: np.ndarray
    image_of_caption: np.ndarray


def ranks_of_answers(dataset, answers: object, what: str) -> QueryRanks:
    """Return the ranks in a file of ``tools/test.py --out``.

    Args:
        dataset: The data set that was tested.
        answers: The content of the file; see :func:`best_answers`.
        what: Name of the file in error messages.

    Raises:
        ValueError: The file is not of a matching model, or is of another data set.
    """
    expected = 'expected what tools/test.py --out writes of a matching model'
    if not isinstance(answers, list) or not all(
        isinstance(a, Mapping) and isinstance(a.get('rank'), int) for a in answers
    ):
        raise InputError(f'{what}: entries without a rank, {expected}')
    captions = dataset.captions()
    i2t, t2i = np.full(dataset.img_size, -1), np.full(len(captions), -1)
    for answer in answers:
        if 'text_id' in answer:
            number = answer['text_id']
            same = 0 <= number < len(captions) and captions[number] == answer.get('text')
            found, ranks = f'the caption {answer.get("text")!r}', t2i
        else:
            number = answer.get('image_id', -1)
            same = 0 <= number < len(i2t) and (
                dataset.get_data_info(number).get('ori_id') == answer.get('ori_id')
            )
            found, ranks = f'the image {answer.get("ori_id")!r}', i2t
        if not same:
            raise InputError(f'{what}: {found} is not number {number} of {dataset.source}')
        ranks[number] = answer['rank'] - 1
    for name, ranks in (('images', i2t), ('captions', t2i)):
        if (ranks < 0).any():
            raise InputError(
                f'{what}: no rank of {int((ranks < 0).sum())} of {len(ranks)} {name} of '
                f'{dataset.source}'
            )
    return QueryRanks(i2t, t2i, dataset.image_of_caption)


def recall_statistics(
    ranks: QueryRanks, captions: np.ndarray | None = None
) -> dict[str, Statistic]:
    """Return the recalls as statistics of images.

    Drawn images are queries, with their captions; the gallery stays as it is.

    Args:
        ranks: The ranks.
        captions: Mask (C,) of the captions that count; None takes all, and adds the recalls of
            image to text and RSUM.

    Returns:
        ``i2t/r1`` ... ``t2i/r10`` and ``rsum``, in percent.
    """
    found: dict[str, Statistic] = {}
    count = len(ranks.i2t)
    if captions is None:
        for k in TOP:
            found[f'i2t/r{k}'] = Ratio((ranks.i2t < k).astype(np.float64), np.ones(count))
    chosen = slice(None) if captions is None else captions
    owner = ranks.image_of_caption[chosen]
    for k in TOP:
        hits = np.bincount(owner, ranks.t2i[chosen] < k, minlength=count)
        found[f't2i/r{k}'] = Ratio(hits, np.bincount(owner, minlength=count).astype(np.float64))
    if captions is None:
        found['rsum'] = Total(list(found.values()))
    return found
