"""Confidence intervals and comparisons of metrics by the bootstrap over images.

Sentences about one image, or instances in it, succeed and fail together. Whole images are
therefore drawn with replacement, each with all that belongs to it (the cluster bootstrap; Davison
and Hinkley, "Bootstrap Methods and their Application", 1997, Section 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError

__all__ = ['Comparison', 'Interval', 'Ratio', 'Statistic', 'Total', 'compare', 'intervals']

Statistic = Callable[[np.ndarray], np.ndarray]
"""Return a metric (B,) for B samples, given how often each of I images was drawn, (B, I)."""

_AT_ONCE = 100  # samples, so that the weights of many images take little memory


@dataclass(frozen=True)
class Ratio:
    """Compute a mean or another ratio of sums over images, in percent.

    Attributes:
        sums: (I,) what each image adds to the numerator, such as its number of correct sentences.
        counts: (I,) what it adds to the denominator, such as its number of sentences.
    """

    sums: np.ndarray
    counts: np.ndarray

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute the ratio (B,), NaN where the denominator is zero."""
        with np.errstate(invalid='ignore'):
            return 100 * (weights @ self.sums) / (weights @ self.counts)


@dataclass(frozen=True)
class Total:
    """Add up other statistics, such as recalls to RSUM.

    Attributes:
        parts: The statistics.
    """

    parts: Sequence[Statistic]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute the sum (B,)."""
        return np.sum([part(weights) for part in self.parts], axis=0)


@dataclass(frozen=True)
class Interval:
    """Hold a metric with its 95 % interval.

    Attributes:
        value: The metric of all images.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Hold a metric of two runs on the same images.

    Attributes:
        first: The metric of the first run.
        second: That of the second.
        difference: ``second - first``.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end.
        p_value: Probability of a difference at least as large, in either direction, if the two runs
            did not differ.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def draw_images(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of ``count`` images is drawn, (b, count), in blocks of samples."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        yield rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)


def intervals(
    statistics: Mapping[str, Statistic], count: int, resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Compute metrics with their 95 % percentile intervals.

    Args:
        statistics: The metrics by name.
        count: Number of images.
        resamples: Number of bootstrap samples. Those in which a metric is not defined are left out
            of its interval.
        seed: Seed of the samples.

    Raises:
        ValueError: There are fewer than two images or fewer than 100 samples.
    """
    values, samples = _resample(statistics, count, resamples, seed)
    return {name: Interval(values[name], *_ends(samples[name])) for name in statistics}


def compare(
    first: Mapping[str, Statistic],
    second: Mapping[str, Statistic],
    count: int,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare two runs by a paired bootstrap: both are measured on the same images of each sample.

    The p-value counts the samples whose difference is at least as far from the observed difference
    as the observed one is from zero (Efron and Tibshirani, "An Introduction to the Bootstrap",
    1993, Section 16.4), with one added to both counts, so that it is never zero.

    Args:
        first: The metrics of the first run by name.
        second: Those of the second run. Metrics that only one run has are left out.
        count: Number of images, which have the same order in both runs.
        resamples: See :func:`intervals`.
        seed: See :func:`intervals`.

    Raises:
        ValueError: The runs have no metric in common; or see :func:`intervals`.
    """
    names = [name for name in first if name in second]
    if not names:
        raise InputError(
            f'the runs have no metric in common: {", ".join(first)}; {", ".join(second)}'
        )
    results = {}
    values, samples = _resample({name: first[name] for name in names}, count, resamples, seed)
    others, other = _resample({name: second[name] for name in names}, count, resamples, seed)
    for name in names:
        observed = others[name] - values[name]
        drawn = other[name] - samples[name]
        drawn = drawn[~np.isnan(drawn)]
        # rounding must not tell equal runs apart
        extreme = np.sum(np.abs(drawn - observed) >= abs(observed) - 1e-9)
        p = (extreme + 1) / (len(drawn) + 1)
        ends = _ends(drawn)
        results[name] = Comparison(values[name], others[name], observed, *ends, float(p))
    return results


def _resample(
    statistics: Mapping[str, Statistic], count: int, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Compute every metric of all images, and of every sample (resamples,)."""
    if count < 2:
        raise InputError(f'bootstrap over {count} image: expected at least two')
    if resamples < 100:
        raise InputError(f'{resamples} bootstrap samples: expected at least 100')
    once = np.ones((1, count))
    values = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weights in draw_images(count, resamples, seed):
        for name, statistic in statistics.items():
            parts[name].append(statistic(weights))
    return values, {name: np.concatenate(part) for name, part in parts.items()}


def _ends(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)
