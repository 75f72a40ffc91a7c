"""The bootstrap over images against images that are really repeated, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from projects.common.bootstrap import Ratio, Total, compare, draw_images, intervals

IMAGES = 60


@pytest.fixture(scope='module')
def runs() -> tuple[Ratio, Ratio]:
    """Numbers of correct sentences of images with one to five sentences, of two alike runs."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, IMAGES)
    chance = rng.beta(2, 2, IMAGES)  # sentences of an image succeed together
    first = rng.binomial(counts, chance)
    second = np.minimum(counts, first + (rng.random(IMAGES) < 0.15))
    return tuple(Ratio(each.astype(float), counts.astype(float)) for each in (first, second))


def repeated(run: Ratio, weights: np.ndarray) -> np.ndarray:
    """The metric of every sample, by lists in which drawn images occur again and again."""
    values = []
    for row in weights.astype(int):
        drawn = [i for i, times in enumerate(row) for _ in range(times)]
        values.append(100 * sum(run.sums[i] for i in drawn) / sum(run.counts[i] for i in drawn))
    return np.array(values)


def test_intervals_by_brute_force(runs):
    weights = np.concatenate(list(draw_images(IMAGES, 250, 3)))
    assert weights.shape == (250, IMAGES) and (weights.sum(1) == IMAGES).all()
    parts = dict(one=runs[0], both=Total(runs))
    found = intervals(parts, IMAGES, 250, seed=3)
    one, two = (repeated(run, weights) for run in runs)
    for name, samples in (('one', one), ('both', one + two)):
        expected = np.percentile(samples, [2.5, 97.5])
        assert (found[name].low, found[name].high) == pytest.approx(expected)
    assert found['one'].value == pytest.approx(100 * runs[0].sums.sum() / runs[0].counts.sum())
    assert intervals(parts, IMAGES, 250, seed=3) == found
    assert intervals(parts, IMAGES, 250, seed=4) != found


def test_intervals_agree_with_scipy(runs):
    def ratio(sums, counts, axis):
        return 100 * sums.sum(axis) / counts.sum(axis)

    expected = stats.bootstrap(
        (runs[0].sums, runs[0].counts), ratio, paired=True, vectorized=True, n_resamples=8000,
        method='percentile', rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = intervals(dict(r1=runs[0]), IMAGES, 8000)['r1']
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.5)


def test_sentences_of_an_image_are_no_separate_evidence():
    """Ten equal sentences of an image say no more than one: the interval is as wide."""
    hits = (np.arange(50) % 3 == 0).astype(float)
    one = intervals(dict(r=Ratio(hits, np.ones(50))), 50)['r']
    ten = intervals(dict(r=Ratio(10 * hits, np.full(50, 10.0))), 50)['r']
    assert ten == one and one.high - one.low > 20


def test_comparison_by_brute_force(runs):
    found = compare(dict(r=runs[0]), dict(r=runs[1]), IMAGES, 300, seed=1)['r']
    weights = np.concatenate(list(draw_images(IMAGES, 300, 1)))
    drawn = repeated(runs[1], weights) - repeated(runs[0], weights)
    observed = found.second - found.first
    assert found.difference == observed > 0
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    extreme = sum(abs(d - observed) >= observed - 1e-9 for d in drawn)
    assert found.p_value == pytest.approx((extreme + 1) / 301)
    assert found.p_value < 0.05 and found.low > 0
    # Unpaired, the images' own difficulty would hide the difference.
    alone = [intervals(dict(r=run), IMAGES, 300)['r'] for run in runs]
    assert found.high - found.low < 0.5 * (alone[0].high - alone[0].low)


def test_swapped_and_equal_runs(runs):
    first, second = (dict(r=run) for run in runs)
    there, back = compare(first, second, IMAGES)['r'], compare(second, first, IMAGES)['r']
    assert (back.difference, back.p_value) == (-there.difference, there.p_value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    same = compare(first, first, IMAGES)['r']
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_p_values_are_uniform_without_a_difference():
    """Of 200 pairs of runs that do not differ, about one in twenty has p < 0.05."""
    rng = np.random.default_rng(2)
    ones = np.ones(80)
    small = 0
    for _ in range(200):
        pair = rng.random((2, 80)) < 0.6
        first, second = ({'r': Ratio(run.astype(float), ones)} for run in pair)
        small += compare(first, second, 80, 200)['r'].p_value < 0.05
    assert 2 <= small <= 22  # 10 expected, three standard deviations of 3.1 and some


def test_images_without_a_sentence_of_the_group():
    """A sample that draws none of the few images of a group is left out."""
    counts = np.zeros(40)
    counts[0] = 1
    found = intervals(dict(r=Ratio(counts.copy(), counts)), 40, 200)['r']
    assert (found.value, found.low, found.high) == (100, 100, 100)


def test_what_cannot_be_compared(runs):
    with pytest.raises(ValueError, match='no metric in common: a; b'):
        compare(dict(a=runs[0]), dict(b=runs[1]), IMAGES)
    with pytest.raises(ValueError, match='bootstrap over 1 image'):
        intervals(dict(a=Ratio(np.ones(1), np.ones(1))), 1)
    with pytest.raises(ValueError, match='99 bootstrap samples: expected at least 100'):
        intervals(dict(a=runs[0]), IMAGES, 99)
