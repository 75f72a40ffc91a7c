"""The map from a model's scores to probabilities, and the threshold that goes with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit, logit

from ..errors import InputError
from ..files.annotation_files import shown

__all__ = ['KINDS', 'Calibration', 'inputs_of']

KINDS = {
    'grounding': 'scores of the objects that sentences name',
    'instances': 'scores of instances',
    'matching': 'similarities of images and sentences',
}
SMALLEST = 1e-6
"""Scores are clipped to this distance from 0 and 1 before their logits are taken."""


def inputs_of(kind: str, scores: np.ndarray) -> np.ndarray:
    """Return what the sigmoid's scale multiplies: logits of scores, or similarities themselves.

    Args:
        kind: One of :data:`KINDS`.
        scores: Scores from 0 to 1, or similarities of 'matching', of any shape.
    """
    scores = np.asarray(scores, dtype=np.float64)
    return scores if kind == 'matching' else logit(scores.clip(SMALLEST, 1 - SMALLEST))


@dataclass(frozen=True)
class Calibration:
    """Map scores to probabilities by ``sigmoid(scale * z + bias)``.

    For grounding and instances, z is the logit of the score: ``scale`` is then 1 / T of temperature
    scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017, Section 4.2), and with
    a bias the map is that of Platt (1999). For matching, z is the similarity. As the scale is
    positive, the order of the scores stays the same.

    Attributes:
        kind: One of :data:`KINDS`.
        scale: Factor of z, positive.
        bias: Added to it.
        threshold: Probability from which on a prediction is accepted.
        report: What it was fitted on and the errors before and after, as plain data.

    Raises:
        ValueError: A value is not valid; see :meth:`from_dict`.
    """

    kind: str
    scale: float
    bias: float
    threshold: float
    report: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Compute the probabilities (float64) of scores of any shape."""
        return expit(self.scale * inputs_of(self.kind, scores) + self.bias)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, which checkpoints hold as entry ``calibration`` of their ``meta``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any, where: str, kind: str | None = None) -> Calibration:
        """Build a calibration from plain data and check every value.

        Args:
            content: What :meth:`to_dict` returned.
            where: Source of the data, for messages.
            kind: The kind that is expected, if any.

        Raises:
            ValueError: A field is missing or has an invalid value, or the kind is another one.
        """
        if not isinstance(content, Mapping):
            raise InputError(f'{where}: calibration: found {shown(content)}, expected a dict')
        expected = repr(kind) if kind else ' or '.join(map(repr, KINDS))
        found = content.get('kind')
        if found not in ([kind] if kind else [*KINDS]):
            raise InputError(
                f'{where}: calibration.kind: found {shown(found)}, expected {expected}'
            )
        numbers = {}
        for name, valid, what in (
            ('scale', lambda value: value > 0, 'a positive number'),
            ('bias', lambda value: True, 'a number'),
            ('threshold', lambda value: 0 <= value <= 1, 'a number from 0 to 1'),
        ):
            value: Any = content.get(name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or not valid(value):
                raise InputError(
                    f'{where}: calibration.{name}: found {shown(value)}, expected {what}'
                )
            numbers[name] = float(value)
        report = content.get('report') or {}
        if not isinstance(report, Mapping):
            raise InputError(f'{where}: calibration.report: found {shown(report)}, expected a dict')
        return cls(kind=str(found), report=dict(report), **numbers)
