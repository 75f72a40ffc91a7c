"""How far probabilities are from frequencies: bins, expected calibration error, plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

__all__ = ['BINS', 'Bin', 'expected_error', 'plot_reliability', 'reliability_bins']

BINS = 15
"""Number of bins, as in Guo et al. (2017)."""
_INK, _BAR, _GAP = '#19191e', '#7a9cc6', '#d9795d'


@dataclass(frozen=True)
class Bin:
    """Hold the predictions whose probabilities lie in an interval.

    Attributes:
        low: Lower end of the interval.
        high: Upper end.
        share: Share of all predictions, from 0 to 1.
        confidence: Mean probability.
        accuracy: Share of the bin's predictions that are correct.
    """

    low: float
    high: float
    share: float
    confidence: float
    accuracy: float


def reliability_bins(
    probabilities: np.ndarray,
    correct: np.ndarray,
    weights: np.ndarray | None = None,
    bins: int = BINS,
    equal_mass: bool = False,
) -> list[Bin]:
    """Compute the non-empty bins of a reliability diagram.

    Args:
        probabilities: (N,) from 0 to 1.
        correct: (N,) bool.
        weights: (N,) how many predictions each stands for; None is 1.
        bins: Number of bins.
        equal_mass: Whether the bins have (nearly) equal numbers of predictions instead of equal
            widths. Predictions of one probability are always in one bin.
    """
    weights = np.ones(len(probabilities)) if weights is None else weights
    if equal_mass:
        order = np.argsort(probabilities, kind='stable')
        reached = np.cumsum(weights[order]) / weights.sum()
        places = np.searchsorted(reached, np.arange(1, bins) / bins)
        edges = np.unique([0.0, *probabilities[order][places.clip(max=len(order) - 1)], 1.0])
    else:
        edges = np.linspace(0, 1, bins + 1)
    # An interval contains its upper end, and the first also its lower one, as in Guo et al.
    index = np.searchsorted(edges[1:-1], probabilities, side='left')
    count = np.bincount(index, weights, minlength=len(edges) - 1)
    confidence = np.bincount(index, weights * probabilities, minlength=len(edges) - 1)
    hits = np.bincount(index, weights * correct, minlength=len(edges) - 1)
    return [
        Bin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            share=float(count[i] / count.sum()),
            confidence=float(confidence[i] / count[i]),
            accuracy=float(hits[i] / count[i]),
        )
        for i in np.flatnonzero(count)
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """Compute the expected calibration error, from 0 to 1 (Guo et al. 2017, Eq. 3).

    It is the mean over all predictions of the distance between accuracy and mean probability of
    their bin.
    """
    return sum(each.share * abs(each.accuracy - each.confidence) for each in bins)


def plot_reliability(sides: Mapping[str, Sequence[Bin]], event: str) -> Figure:
    """Plot reliability diagrams side by side, each above the shares of its bins.

    Args:
        sides: The bins by title, such as those before and after calibration.
        event: What the probabilities are of, as label of the axis.
    """
    figure = Figure(figsize=(4.4 * len(sides), 5.2), dpi=110)
    grid = figure.add_gridspec(2, len(sides), height_ratios=[3, 1])
    for column, (title, bins) in enumerate(sides.items()):
        axes = figure.add_subplot(grid[0, column])
        below = figure.add_subplot(grid[1, column], sharex=axes)
        _plot_one(axes, bins)
        axes.set_title(f'{title}: ECE {100 * expected_error(bins):.1f} %', fontsize=10, color=_INK)
        left, width = [b.low for b in bins], [b.high - b.low for b in bins]
        below.bar(left, [b.share for b in bins], width, align='edge', color=_BAR, edgecolor='white')
        below.set_yscale('log')
        below.yaxis.set_minor_formatter(NullFormatter())
        below.tick_params(labelsize=8)
        axes.tick_params(labelbottom=False)
        below.set_xlabel('score or probability', fontsize=9)
        if column == 0:
            axes.set_ylabel(f'share with {event}', fontsize=9)
            below.set_ylabel('share of all', fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='lower center', ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _plot_one(axes, bins: Sequence[Bin]) -> None:
    """Draw the accuracy of each bin, and its distance from the mean probability."""
    left, width = [b.low for b in bins], [b.high - b.low for b in bins]
    accuracy = np.array([b.accuracy for b in bins])
    confidence = np.array([b.confidence for b in bins])
    axes.bar(left, accuracy, width, align='edge', color=_BAR, edgecolor='white', label='accuracy')
    axes.vlines(confidence, accuracy, confidence, color=_GAP, linewidth=2, label='gap')
    axes.plot(confidence, confidence, '.', color=_GAP, markersize=7, label='mean score')
    axes.plot([0, 1], [0, 1], ':', color=_INK, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.tick_params(labelsize=8)
