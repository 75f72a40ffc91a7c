"""Pairs of images and captions, whose similarities are calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from projects.common.calibration import Outcomes

__all__ = ['pair_outcomes']


def pair_outcomes(
    similarities: np.ndarray, image_of_caption: Sequence[int], most: int = 2_000_000, seed: int = 0
) -> Outcomes:
    """Return the similarities of pairs, and whether image and caption belong together.

    All pairs count. If there are more than ``most``, all that belong together are kept, and each of
    a random sample of the others stands for several.

    Args:
        similarities: (I, C), which may be memory-mapped.
        image_of_caption: (C,)
        most: Number of pairs, about, that are kept.
        seed: Seed of the sample.
    """
    owner = np.asarray(image_of_caption)
    rng = np.random.default_rng(seed)
    share = min(1.0, most / similarities.size)
    scores, correct, images = [], [], []
    for i, row in enumerate(similarities):
        own = owner == i
        kept = own | (rng.random(len(own)) < share) if share < 1 else np.ones(len(own), bool)
        scores.append(np.asarray(row, dtype=np.float64)[kept])
        correct.append(own[kept])
        images.append(np.full(int(kept.sum()), i))
    matched = np.concatenate(correct)
    weights = None
    if share < 1:
        others = similarities.size - len(owner)
        weights = np.where(matched, 1.0, others / max(1, int((~matched).sum())))
    return Outcomes(
        kind='matching',
        scores=np.concatenate(scores),
        correct=matched,
        images=np.concatenate(images),
        event='pairs that belong together',
        weights=weights,
    )
