"""Average precision as a function of images, for confidence intervals and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from projects.common.bootstrap import Statistic

from .instance_matches import ClassMatches

__all__ = ['APStatistic', 'instance_statistics']

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class APStatistic:
    """Compute COCO's average precision, the mean over classes, as a function of drawn images.

    Attributes:
        classes: The matches of each class. A class without an object in the sample is left out.
    """

    classes: Sequence[ClassMatches]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute the AP (B,) in percent for images drawn ``weights`` (B, I) times."""
        with np.errstate(invalid='ignore'):
            return 100 * np.nanmean([_precision(c, weights) for c in self.classes], axis=0)


def _precision(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """Compute the AP (B,) of one class from 0 to 1, NaN without an object."""
    objects = weights @ matches.objects
    of_each = weights[:, matches.images]
    right = np.cumsum(of_each * matches.correct, axis=1)
    total = np.cumsum(of_each, axis=1)
    precision = right / np.maximum(total, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros(len(weights))
    for i, count in enumerate(objects):
        if not count:
            found[i] = np.nan
            continue
        places = np.searchsorted(right[i] / count, _RECALLS, side='left')
        reached = places[places < precision.shape[1]]
        found[i] = precision[i, reached].sum() / len(_RECALLS)
    return found


def instance_statistics(
    matches: Mapping[str, Mapping[float, Sequence[ClassMatches]]],
) -> dict[str, Statistic]:
    """Return AP as statistics of images: ``bbox_AP50``, ``segm_AP25`` and so on.

    Args:
        matches: The results of :func:`match_instances` by type of IoU.
    """
    return {
        f'{iou_type}_AP{round(100 * threshold)}': APStatistic(classes)
        for iou_type, thresholds in matches.items()
        for threshold, classes in thresholds.items()
    }
