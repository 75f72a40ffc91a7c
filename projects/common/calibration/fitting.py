"""Temperature and Platt scaling, with errors on images that the fit has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, precision_recall_curve

from ..errors import InputError
from .calibration import SMALLEST, Calibration, inputs_of
from .reliability import BINS, expected_error, reliability_bins

__all__ = [
    'METHODS',
    'HalfFit',
    'Outcomes',
    'calibrate',
    'check',
    'choose_threshold',
    'cross_fit',
    'fit_platt',
    'held_out_probabilities',
    'raw_probabilities',
]

METHODS = ('auto', 'temperature', 'platt')


@dataclass(frozen=True)
class Outcomes:
    """Hold the scores of predictions and whether each is correct.

    Attributes:
        kind: One of :data:`.KINDS`.
        scores: (N,) float64.
        correct: (N,) bool.
        images: (N,) int64, the image of each prediction.
        event: What 'correct' means, in a few words.
        weights: (N,) float64, the number of predictions that each stands for; None is 1.

    Raises:
        ValueError: The predictions are all correct or all wrong, are of a single image, or have
            scores that are not finite.
    """

    kind: str
    scores: np.ndarray
    correct: np.ndarray
    images: np.ndarray
    event: str
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that there is something to fit."""
        right, count = int(np.sum(self.correct)), len(self.scores)
        if not 0 < right < count:
            raise InputError(
                f'calibration: {right} of {count} predictions are correct ({self.event}); '
                'expected some that are and some that are not'
            )
        if len(np.unique(self.images)) < 2:
            raise InputError('calibration: predictions of one image, expected at least two images')
        if not np.isfinite(self.scores).all():
            raise InputError('calibration: a score is NaN or infinite')

    @property
    def sample_weights(self) -> np.ndarray:
        """Return the weights (N,), all 1 if there are none."""
        return np.ones(len(self.scores)) if self.weights is None else self.weights

    def part(self, chosen: np.ndarray) -> Outcomes:
        """Return the predictions of a mask (N,) of bool."""
        weights = None if self.weights is None else self.weights[chosen]
        columns = (self.scores[chosen], self.correct[chosen], self.images[chosen])
        return Outcomes(self.kind, *columns, self.event, weights)


def fit_platt(outcomes: Outcomes, with_bias: bool) -> tuple[float, float]:
    """Fit scale and bias by the largest likelihood, i.e. logistic regression without penalty.

    Args:
        outcomes: Scores and whether they are correct.
        with_bias: Whether to fit a bias too (Platt 1999), or the scale alone, which is one over the
            temperature of Guo et al. (2017).

    Returns:
        Scale and bias, which is 0 if it is not fitted.

    Raises:
        ValueError: Higher scores are less often correct, or the scores alone tell which are.
    """
    z = inputs_of(outcomes.kind, outcomes.scores)
    # Standardized inputs, so that the solver's tolerance means the same for all scores.
    center, spread = (float(z.mean()) if with_bias else 0.0), float(z.std()) or 1.0
    model = LogisticRegression(C=np.inf, fit_intercept=with_bias, tol=1e-8, max_iter=1000)
    inputs = ((z - center) / spread)[:, None]
    model.fit(inputs, outcomes.correct, sample_weight=outcomes.sample_weights)
    scale = float(model.coef_[0, 0]) / spread
    bias = float(model.intercept_[0]) - scale * center if with_bias else 0.0
    if scale <= 0:
        raise InputError(
            f'calibration: higher scores are not more often correct (scale {scale:.3g}; '
            f'{outcomes.event}); no map that keeps their order fits'
        )
    return scale, bias


def raw_probabilities(outcomes: Outcomes) -> np.ndarray:
    """Return the scores (N,) read as probabilities: similarities are clipped to 0 ... 1."""
    return outcomes.scores.clip(0, 1)


def halves(outcomes: Outcomes, seed: int = 0) -> np.ndarray:
    """Return a mask (N,) of the predictions of one half of the images, drawn at random."""
    images = np.unique(outcomes.images)
    first = np.random.default_rng(seed).permutation(images)[: len(images) // 2]
    return np.isin(outcomes.images, first)


@dataclass(frozen=True)
class HalfFit:
    """Hold a fit for one half of the images that was made on the other half.

    Attributes:
        own: (N,) bool, the predictions of the half that it is applied to.
        scale: The fitted scale.
        bias: The fitted bias.
    """

    own: np.ndarray
    scale: float
    bias: float


def cross_fit(outcomes: Outcomes, with_bias: bool, seed: int = 0) -> list[HalfFit]:
    """Fit each half of the images on the other half; for the arguments, see :func:`calibrate`."""
    first = halves(outcomes, seed)
    return [HalfFit(own, *fit_platt(outcomes.part(~own), with_bias)) for own in (first, ~first)]


def held_out_probabilities(outcomes: Outcomes, fits: list[HalfFit]) -> np.ndarray:
    """Compute the probability (N,) of each prediction by the fit on the half that it is not in."""
    z = inputs_of(outcomes.kind, outcomes.scores)
    probabilities = np.empty(len(z))
    for fit in fits:
        probabilities[fit.own] = expit(fit.scale * z[fit.own] + fit.bias)
    return probabilities


def choose_threshold(
    probabilities: np.ndarray,
    correct: np.ndarray,
    weights: np.ndarray,
    precision: float | None = None,
) -> float:
    """Choose the threshold of the largest F1, or the lowest one that reaches a precision.

    Args:
        probabilities: (N,)
        correct: (N,) bool.
        weights: (N,)
        precision: The precision to reach, from 0 to 1; None maximizes F1.

    Raises:
        ValueError: No threshold reaches the precision.
    """
    found, recall, thresholds = precision_recall_curve(
        correct, probabilities, sample_weight=weights
    )
    found, recall = found[:-1], recall[:-1]  # the last has no threshold
    if precision is None:
        f1 = 2 * found * recall / np.maximum(found + recall, 1e-12)
        return float(thresholds[f1.argmax()])
    if not (found >= precision).any():
        raise InputError(
            f'calibration: no threshold reaches a precision of {precision:g}; the highest is '
            f'{found.max():.3f}'
        )
    return float(thresholds[(found >= precision).argmax()])


def calibrate(
    outcomes: Outcomes, method: str = 'auto', precision: float | None = None, seed: int = 0
) -> tuple[Calibration, np.ndarray]:
    """Fit a calibration and report the errors before and after.

    The parameters and the threshold are fitted to all predictions. All figures of the report after
    calibration are cross-fitted: a prediction's probability, and the threshold that it is compared
    with, come from the half of the images that it does not belong to.

    Args:
        outcomes: Scores of a validation set, and whether they are correct.
        method: 'temperature' fits the scale alone, 'platt' scale and bias, and 'auto' takes the one
            of the lower cross-fitted negative log likelihood. Similarities always need a bias.
        precision: See :func:`choose_threshold`.
        seed: Seed of the division of the images into halves.

    Returns:
        The calibration, and the cross-fitted probabilities (N,).

    Raises:
        ValueError: Nothing can be fitted; see :class:`Outcomes` and :func:`fit_platt`.
    """
    if method not in METHODS:
        raise InputError(f'method={method!r}: expected {" or ".join(map(repr, METHODS))}')
    if outcomes.kind == 'matching':
        if method == 'temperature':
            raise InputError("method='temperature': similarities are no logits; expected 'platt'")
        method = 'platt'
    weights, correct = outcomes.sample_weights, outcomes.correct
    names = [method] if method != 'auto' else ['temperature', 'platt']
    fits = {name: cross_fit(outcomes, name == 'platt', seed) for name in names}
    errors = {
        name: _errors(held_out_probabilities(outcomes, fits[name]), correct, weights)
        for name in names
    }
    method = min(names, key=lambda name: errors[name]['nll'])
    scale, bias = fit_platt(outcomes, method == 'platt')
    probabilities = expit(scale * inputs_of(outcomes.kind, outcomes.scores) + bias)
    report = _report(outcomes)
    report.update(
        method=method,
        seed=seed,
        after=errors[method],
        at_threshold=_held_out_threshold(outcomes, fits[method], precision),
    )
    threshold = choose_threshold(probabilities, correct, weights, precision)
    calibration = Calibration(outcomes.kind, scale, bias, threshold, report)
    return calibration, held_out_probabilities(outcomes, fits[method])


def check(calibration: Calibration, outcomes: Outcomes) -> tuple[dict[str, Any], np.ndarray]:
    """Measure a calibration on predictions that it was not fitted on.

    Returns:
        A report like that of :func:`calibrate`, and the probabilities (N,).
    """
    weights, correct = outcomes.sample_weights, outcomes.correct
    probabilities = calibration(outcomes.scores)
    report = _report(outcomes)
    report.update(
        after=_errors(probabilities, correct, weights),
        at_threshold=_at_threshold(probabilities >= calibration.threshold, correct, weights),
    )
    return report, probabilities


def _report(outcomes: Outcomes) -> dict[str, Any]:
    """Describe predictions, and the errors of their scores as they are and of their mean."""
    weights, correct = outcomes.sample_weights, outcomes.correct
    share = np.full(len(correct), np.average(correct, weights=weights))
    return dict(
        event=outcomes.event,
        predictions=round(float(weights.sum())),
        correct=round(float(weights[correct].sum())),
        images=len(np.unique(outcomes.images)),
        bins=BINS,
        constant=_errors(share, correct, weights),
        before=_errors(raw_probabilities(outcomes), correct, weights),
    )


def _errors(probabilities: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> dict:
    """Compute ECE with bins of equal width and of equal mass, log loss and Brier score."""

    def error(equal_mass: bool) -> float:
        return expected_error(
            reliability_bins(probabilities, correct, weights, equal_mass=equal_mass)
        )

    clipped = probabilities.clip(SMALLEST, 1 - SMALLEST)
    return dict(
        ece=error(False),
        ece_equal_mass=error(True),
        nll=float(log_loss(correct, clipped, sample_weight=weights)),
        brier=float(brier_score_loss(correct, probabilities, sample_weight=weights)),
    )


def _held_out_threshold(
    outcomes: Outcomes, fits: list[HalfFit], precision: float | None
) -> dict[str, float]:
    """Compute precision and recall at thresholds chosen on the other half of the images."""
    weights, correct = outcomes.sample_weights, outcomes.correct
    z = inputs_of(outcomes.kind, outcomes.scores)
    accepted = np.zeros(len(z), dtype=bool)
    for fit in fits:
        p = expit(fit.scale * z + fit.bias)
        other = ~fit.own
        limit = choose_threshold(p[other], correct[other], weights[other], precision)
        accepted[fit.own] = p[fit.own] >= limit
    return _at_threshold(accepted, correct, weights)


def _at_threshold(
    accepted: np.ndarray, correct: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    """Compute precision, recall and the share of the predictions that are accepted."""
    kept, right = float(weights[accepted].sum()), float(weights[accepted & correct].sum())
    return dict(
        precision=right / kept if kept else 0.0,
        recall=right / float(weights[correct].sum()),
        accepted=kept / float(weights.sum()),
    )
