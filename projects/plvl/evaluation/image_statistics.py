"""Metrics of grounding as functions of images, for confidence intervals and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from projects.common.bootstrap import Ratio
from projects.common.calibration import Outcomes
from projects.common.errors import InputError

from .grounding_analysis import Record
from .grounding_metric import GroundingMetric

__all__ = ['grounding_outcomes', 'grounding_statistics', 'images_of']


def images_of(dataset) -> dict[str, int]:
    """Return the index of every image of a dataset by its path, in the order of the dataset."""
    paths = (dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))
    return {path: i for i, path in enumerate(dict.fromkeys(paths))}


def grounding_statistics(records: Sequence[Record], images: Mapping[str, int]) -> dict[str, Ratio]:
    """Return the metrics of :class:`GroundingMetric` as statistics of images.

    Args:
        records: Sentences with their overlaps.
        images: The result of :func:`images_of`.

    Returns:
        ``rec_acc50`` ... ``rec_miou`` if there are boxes, and ``res_miou``, ``res_oiou`` and
        ``res_p50`` ... ``res_p90`` if there are masks.
    """
    where = np.array([images[record.sample['img_path']] for record in records])

    def ratio(chosen: list[int], top: np.ndarray, below: np.ndarray) -> Ratio:
        sums = np.bincount(where[chosen], top, minlength=len(images))
        return Ratio(sums, np.bincount(where[chosen], below, minlength=len(images)))

    found: dict[str, Ratio] = {}
    means: tuple[tuple[str, str, Callable[[Record], float | None]], ...] = (
        ('rec_acc', 'rec_miou', lambda record: record.box_iou),
        ('res_p', 'res_miou', lambda record: record.mask_iou),
    )
    for prefix, mean, overlap in means:
        chosen = [i for i, record in enumerate(records) if overlap(record) is not None]
        if not chosen:
            continue
        ious = np.array([overlap(records[i]) for i in chosen], dtype=np.float64)
        ones = np.ones(len(chosen))
        for threshold in GroundingMetric.THRESHOLDS:
            found[f'{prefix}{threshold}'] = ratio(chosen, ious >= threshold / 100, ones)
        found[mean] = ratio(chosen, ious, ones)
    areas = [(i, record.mask_areas) for i, record in enumerate(records) if record.mask_areas]
    if areas:
        chosen = [i for i, _ in areas]
        inter, union = np.array([area for _, area in areas], dtype=np.float64).T
        found['res_oiou'] = ratio(chosen, inter, union)
    return found


def grounding_outcomes(records: Sequence[Record], images: Mapping[str, int]) -> Outcomes:
    """Return the scores of predictions, and whether their IoU is at least 0.5.

    Args:
        records: Sentences with their overlaps.
        images: The result of :func:`images_of`.

    Raises:
        ValueError: A score is not from 0 to 1, or the predictions are all correct or all wrong.
    """
    scores = np.array([record.score for record in records], dtype=np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise InputError(
            f'scores of the predictions: found {scores.min():g} to {scores.max():g}, expected 0 '
            'to 1'
        )
    boxes = all(record.box_iou is not None for record in records)
    return Outcomes(
        kind='grounding',
        scores=scores,
        correct=np.array([record.iou >= 0.5 for record in records]),
        images=np.array([images[record.sample['img_path']] for record in records]),
        event=f'{"box" if boxes else "mask"} IoU >= 0.5',
    )
