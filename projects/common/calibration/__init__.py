"""Scores as probabilities: fitting, errors before and after, thresholds and plots."""

from .calibration import KINDS, Calibration
from .fitting import (
    METHODS,
    Outcomes,
    calibrate,
    check,
    cross_fit,
    fit_platt,
    held_out_probabilities,
    raw_probabilities,
)
from .reliability import Bin, expected_error, plot_reliability, reliability_bins

__all__ = [
    'KINDS',
    'METHODS',
    'Bin',
    'Calibration',
    'Outcomes',
    'calibrate',
    'check',
    'cross_fit',
    'expected_error',
    'fit_platt',
    'held_out_probabilities',
    'plot_reliability',
    'raw_probabilities',
    'reliability_bins',
]
