"""Recalls, median and mean ranks and RSUM, over all images and averaged over folds."""

from __future__ import annotations

import os

import numpy as np

from projects.common.errors import InputError

from .ranks import RetrievalRanks

__all__ = ['check_folds', 'fold_summary', 'rank_summary', 'retrieval_summary']

TOP = (1, 5, 10)


def rank_summary(ranks: np.ndarray) -> dict[str, float]:
    """Compute recalls at 1, 5 and 10 in percent, and median and mean rank counted from 1.

    The median rank is ``floor(median) + 1`` of the ranks from 0, as in the published code.

    Args:
        ranks: (N,) ranks from 0.
    """
    summary = {f'r{k}': 100.0 * float(np.mean(ranks < k)) for k in TOP}
    summary['medr'] = float(np.floor(np.median(ranks)) + 1)
    summary['meanr'] = float(ranks.mean() + 1)
    return summary


def retrieval_summary(i2t: np.ndarray, t2i: np.ndarray) -> dict[str, float]:
    """Summarise both directions.

    The keys are ``i2t/r1`` ... ``t2i/meanr`` and ``rsum``, the sum of the six recalls.
    """
    summary = {
        f'{way}/{name}': value
        for way, ranks in (('i2t', i2t), ('t2i', t2i))
        for name, value in rank_summary(ranks).items()
    }
    summary['rsum'] = sum(summary[f'{way}/r{k}'] for way in ('i2t', 't2i') for k in TOP)
    return summary


def fold_summary(ranks: RetrievalRanks) -> list[dict[str, float]]:
    """Summarise each fold; COCO 1K is the mean over the folds for each field.

    Raises:
        ValueError: The ranks were counted without folds.
    """
    if ranks.fold_i2t is None or ranks.fold_t2i is None or ranks.fold_of_image is None:
        raise InputError('fold_summary: the ranks were counted without fold_size')
    return [
        retrieval_summary(
            ranks.fold_i2t[ranks.fold_of_image == fold],
            ranks.fold_t2i[ranks.fold_of_caption == fold],
        )
        for fold in range(int(ranks.fold_of_image.max()) + 1)
    ]


def check_folds(num_images: int, num_folds: int, fold_size: int, source: str) -> None:
    """Check that a test file has the images the folds need, unlike COCO's 1K file for five folds.

    Args:
        num_images: Number of images in the file.
        num_folds: Requested number of folds.
        fold_size: Number of images per fold.
        source: File that lists the images.

    Raises:
        ValueError: The numbers do not match. The message names the expected file.
    """
    expected = num_folds * fold_size
    if num_images == expected:
        return
    name = os.path.basename(source)
    hint = ''
    if num_images < expected and name.startswith('test') and not name.startswith('testall'):
        hint = f'; expected testall{name[4:]}, which holds all test images'
    raise InputError(
        f'{source}: it has {num_images:,} images, but {num_folds} folds of {fold_size:,} need '
        f'{expected:,}{hint}'
    )
