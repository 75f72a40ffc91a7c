"""Calibration against arithmetic by hand, brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve

from projects.common.calibration import (
    Calibration,
    Outcomes,
    calibrate,
    check,
    cross_fit,
    expected_error,
    fit_platt,
    held_out_probabilities,
    plot_reliability,
    reliability_bins,
)
from projects.common.calibration.fitting import choose_threshold, halves


def simulated(scale: float, bias: float, kind: str = 'grounding', count: int = 4000) -> Outcomes:
    """Scores whose probability of being correct is known, five for each image."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, count) if kind == 'matching' else rng.uniform(0.02, 0.98, count)
    z = scores if kind == 'matching' else logit(scores)
    correct = rng.random(count) < expit(scale * z + bias)
    return Outcomes(kind, scores, correct, np.arange(count) // 5, 'it is right')


def test_error_by_hand():
    """Two bins: (0.2, 0.4) with half right, and (0.8, 0.9, 1.0) with all right."""
    p = np.array([0.2, 0.4, 0.8, 0.9, 1.0])
    correct = np.array([True, False, True, True, True])
    bins = reliability_bins(p, correct, bins=2)
    assert [(b.low, b.high, b.share) for b in bins] == [(0, 0.5, 0.4), (0.5, 1, 0.6)]
    assert bins[0].confidence == pytest.approx(0.3) and bins[0].accuracy == 0.5
    assert bins[1].confidence == pytest.approx(0.9) and bins[1].accuracy == 1
    assert expected_error(bins) == pytest.approx(0.4 * 0.2 + 0.6 * 0.1)
    # The weight 3 is the same as three predictions.
    weighted = reliability_bins(p, correct, np.array([3.0, 1, 1, 1, 1]), bins=2)
    repeated = reliability_bins(np.r_[p, 0.2, 0.2], np.r_[correct, True, True], bins=2)
    assert expected_error(weighted) == pytest.approx(expected_error(repeated))


@pytest.mark.parametrize('strategy', ['uniform', 'quantile'])
def test_bins_equal_those_of_scikit_learn(strategy):
    rng = np.random.default_rng(1)
    p = rng.beta(2, 1, 3000)
    correct = rng.random(3000) < p**2
    accuracy, confidence = calibration_curve(correct, p, n_bins=15, strategy=strategy)
    bins = reliability_bins(p, correct, equal_mass=strategy == 'quantile')
    tolerance = 1e-9 if strategy == 'uniform' else 0.01  # its quantiles interpolate
    assert [b.accuracy for b in bins] == pytest.approx(accuracy, abs=tolerance)
    assert [b.confidence for b in bins] == pytest.approx(confidence, abs=tolerance)
    if strategy == 'quantile':
        assert [b.share for b in bins] == pytest.approx([1 / 15] * 15, abs=0.001)


def test_equal_scores_stay_in_one_bin():
    bins = reliability_bins(np.full(100, 0.3), np.arange(100) < 30, equal_mass=True)
    assert len(bins) == 1 and expected_error(bins) == pytest.approx(0)


@pytest.mark.parametrize(('kind', 'with_bias'), [('grounding', True), ('grounding', False),
                                                 ('matching', True)])  # fmt: skip
def test_fit_minimizes_the_likelihood(kind, with_bias):
    """The same as a general optimizer on the formula, and near what the data was made with."""
    made = (2.0, -0.7 if with_bias else 0.0)
    outcomes = simulated(*made, kind)
    z = outcomes.scores if kind == 'matching' else logit(outcomes.scores)

    def loss(values: np.ndarray) -> float:
        p = expit(values[0] * z + (values[1] if with_bias else 0))
        return -np.mean(np.log(np.where(outcomes.correct, p, 1 - p)))

    best = minimize(loss, [1.0, 0.0][: 1 + with_bias], method='Nelder-Mead',
                    options=dict(xatol=1e-6, fatol=1e-12))  # fmt: skip
    found = fit_platt(outcomes, with_bias)
    assert found[: 1 + with_bias] == pytest.approx(best.x, abs=1e-3)
    assert found == pytest.approx(made, abs=0.15)


def test_weights_stand_for_predictions():
    outcomes = simulated(1.5, 0.4, count=600)
    twice = np.where(np.arange(600) % 3 == 0, 2, 1)
    columns = (outcomes.scores, outcomes.correct, outcomes.images)
    repeated = Outcomes('grounding', *(np.repeat(c, twice) for c in columns), 'x')
    weighted = Outcomes('grounding', *columns, 'x', twice.astype(float))
    first, second = (calibrate(each, 'platt')[0] for each in (repeated, weighted))
    # Inputs are standardized without weights, which only moves the solver's last digits.
    assert (first.scale, first.bias) == pytest.approx((second.scale, second.bias), rel=1e-4)
    assert first.threshold == pytest.approx(second.threshold, rel=1e-4)
    for side in ('before', 'after'):
        assert first.report[side] == pytest.approx(second.report[side], abs=1e-4)


def test_a_prediction_does_not_see_its_own_half():
    outcomes = simulated(1.0, 1.0, count=1000)
    own = halves(outcomes)
    flipped = np.where(own & (np.arange(1000) % 4 == 0), ~outcomes.correct, outcomes.correct)
    other = Outcomes('grounding', outcomes.scores, flipped, outcomes.images, 'x')
    first, second = (held_out_probabilities(o, cross_fit(o, True)) for o in (outcomes, other))
    assert (first[own] == second[own]).all()
    assert not np.isclose(first[~own], second[~own]).any()
    assert own.sum() == 500 and (own.reshape(-1, 5) == own[::5, None]).all()  # whole images


def test_calibrate_lowers_the_error():
    outcomes = simulated(3.0, 1.0)
    calibration, probabilities = calibrate(outcomes)
    report = calibration.report
    assert report['method'] == 'platt' and report['predictions'] == 4000
    assert report['images'] == 800 and report['correct'] == outcomes.correct.sum()
    assert report['before']['ece'] > 0.1 and report['after']['ece'] < 0.03
    for key in ('ece_equal_mass', 'nll', 'brier'):
        assert report['after'][key] < report['before'][key]
    assert report['after']['brier'] == pytest.approx(
        np.mean((probabilities - outcomes.correct) ** 2)
    )
    share = outcomes.correct.mean()
    assert report['constant']['brier'] == pytest.approx(share * (1 - share))
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert report['constant']['nll'] == pytest.approx(entropy)
    assert calibrate(simulated(3.0, 0.0), 'temperature')[0].bias == 0
    # Fresh data of the same law; the probability of each is known.
    rng = np.random.default_rng(5)
    scores = rng.uniform(0.02, 0.98, 2000)
    fresh = Outcomes('grounding', scores, rng.random(2000) < expit(3 * logit(scores) + 1),
                     np.arange(2000), 'x')  # fmt: skip
    checked, found = check(calibration, fresh)
    assert np.abs(found - expit(3 * logit(scores) + 1)).max() < 0.05
    assert checked['after']['ece'] < 0.04 < checked['before']['ece']
    accepted = found >= calibration.threshold
    assert checked['at_threshold']['precision'] == pytest.approx(fresh.correct[accepted].mean())


@pytest.mark.parametrize('precision', [None, 0.9])
def test_threshold_by_brute_force(precision):
    rng = np.random.default_rng(3)
    p = rng.random(200).round(2)  # with ties
    correct = rng.random(200) < p
    weights = rng.integers(1, 4, 200).astype(float)
    figures = []
    for limit in np.unique(p):
        kept = p >= limit
        right = weights[kept & correct].sum()
        found, recall = right / weights[kept].sum(), right / weights[correct].sum()
        figures.append((limit, found, 2 * found * recall / (found + recall)))
    if precision is None:
        expected = max(figures, key=lambda row: row[2])[0]
    else:
        expected = min(row[0] for row in figures if row[1] >= precision)
    assert choose_threshold(p, correct, weights, precision) == expected


def test_what_cannot_be_calibrated():
    scores, images = np.array([0.2, 0.6, 0.9, 0.8]), np.arange(4)
    with pytest.raises(ValueError, match=r'4 of 4 predictions are correct \(it is right\)'):
        Outcomes('grounding', scores, np.ones(4, bool), images, 'it is right')
    mixed = np.array([True, False, True, False])
    with pytest.raises(ValueError, match='predictions of one image'):
        Outcomes('grounding', scores, mixed, np.zeros(4), 'x')
    with pytest.raises(ValueError, match='a score is NaN or infinite'):
        Outcomes('grounding', np.array([0.2, np.nan, 0.9, 0.8]), mixed, images, 'x')
    with pytest.raises(ValueError, match='higher scores are not more often correct'):
        calibrate(simulated(-2.0, 0.0))
    with pytest.raises(ValueError, match="expected 'platt'"):
        calibrate(simulated(2.0, 0.0, 'matching'), 'temperature')
    noise = Outcomes('grounding', np.linspace(0.1, 0.9, 400), np.arange(400) % 2 == 0,
                     np.arange(400), 'x')  # fmt: skip
    with pytest.raises(ValueError, match='no threshold reaches a precision of 0.99'):
        choose_threshold(noise.scores, noise.correct, np.ones(400), 0.99)


def test_plain_data():
    calibration = Calibration('grounding', 2.0, -1.0, 0.4, dict(method='platt'))
    assert Calibration.from_dict(calibration.to_dict(), 'x', 'grounding') == calibration
    # sigmoid(2 * logit(0.5) - 1) = 1 / (1 + e)
    assert calibration(np.array([0.5]))[0] == pytest.approx(1 / (1 + np.e))
    assert np.isfinite(calibration(np.array([0.0, 1.0]))).all()
    similar = Calibration('matching', 10.0, -5.0, 0.4)
    assert similar(np.array(0.5)) == 0.5


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(scale=0), 'calibration.scale: found 0, expected a positive number'),
        (dict(scale=float('nan')), 'calibration.scale: found nan'),
        (dict(bias='1'), "calibration.bias: found '1', expected a number"),
        (dict(threshold=1.5), 'calibration.threshold: found 1.5, expected a number from 0 to 1'),
        (dict(kind='other'), "calibration.kind: found 'other', expected 'grounding'"),
        (dict(report=[1]), 'calibration.report: found'),
    ],
)
def test_damaged_data(change, message):
    content = {**Calibration('grounding', 1.0, 0.0, 0.5).to_dict(), **change}
    with pytest.raises(ValueError, match=f'best.pth: {message}'):
        Calibration.from_dict(content, 'best.pth', 'grounding')


def test_plot_shows_both_sides():
    outcomes = simulated(3.0, 1.0)
    _, after = calibrate(outcomes)
    sides = {
        name: reliability_bins(p, outcomes.correct)
        for name, p in (('before', outcomes.scores), ('after', after))
    }
    figure = plot_reliability(sides, 'box IoU >= 0.5')
    assert len(figure.axes) == 4
    for axes, (name, bins) in zip(figure.axes[::2], sides.items()):
        assert axes.get_title() == f'{name}: ECE {100 * expected_error(bins):.1f} %'
        assert [bar.get_height() for bar in axes.patches] == [b.accuracy for b in bins]
